#pragma once

#include <span>
#include <string>
#include <vector>

#include <trinix/tools/lib/metrics.h>

/// @file
/// The curves of a run as a picture.

namespace trinix::tools {

/// A point of a curve.
struct LossPoint {
  double step = 0;
  double loss = 0;
};

/// What loss_svg() draws. Points whose loss is not finite are left out.
struct LossPlot {
  std::string title = "Loss";
  std::string subtitle = {};             ///< smaller, below the title
  std::vector<LossPoint> training = {};  ///< of each step's batch; drawn thin, and smoothed
  std::vector<LossPoint> validation = {};
};

/// The curves of a run's metrics.
[[nodiscard]] LossPlot loss_plot(std::span<const MetricsRow> rows, std::string title, std::string subtitle = "");

/// A self-contained SVG of 860 by 480, drawn the same everywhere. Its size stays below some 200 kB whatever the number
/// of steps.
[[nodiscard]] std::string loss_svg(const LossPlot& plot);

/// Round numbers (1, 2 or 5 times a power of ten apart) around [low, high]: the first is at most low, the last at least
/// high. About `wanted` of them.
[[nodiscard]] std::vector<double> round_ticks(double low, double high, int wanted);

}  // namespace trinix::tools
