#include <algorithm>
#include <cmath>
#include <limits>

#include <trinix/core/detail/fail.h>
#include <trinix/tools/lib/loss_plot.h>
#include <trinix/tools/lib/utf8.h>

namespace trinix::tools {

namespace {

using detail::format;

constexpr double kWidth = 860;
constexpr double kHeight = 480;
constexpr double kLeft = 70;
constexpr double kRight = kWidth - 28;
constexpr double kTop = 92;
constexpr double kBottom = kHeight - 56;

// Two colours that people with any colour vision tell apart (Okabe and Ito, 2008).
constexpr const char* kTrainingColour = "#0072B2";
constexpr const char* kValidationColour = "#D55E00";

/// Text for XML: markup escaped, and what XML cannot hold replaced.
std::string escaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const utf8::Character c = utf8::decode(text, i);
    const char byte = text[i];
    i += std::max<std::size_t>(1, c.length);
    if (c.length == 0 || (c.code < 0x20 && c.code != '\t') || c.code == 0x7F || c.code >= 0xFFFE) {
      out += "\xEF\xBF\xBD";  // U+FFFD
    } else if (byte == '<') {
      out += "&lt;";
    } else if (byte == '>') {
      out += "&gt;";
    } else if (byte == '&') {
      out += "&amp;";
    } else if (byte == '"') {
      out += "&quot;";
    } else {
      utf8::append(out, c.code);
    }
  }
  return out;
}

std::vector<LossPoint> finite(const std::vector<LossPoint>& points) {
  std::vector<LossPoint> kept;
  std::copy_if(points.begin(), points.end(), std::back_inserter(kept),
               [](const LossPoint& p) { return std::isfinite(p.step) && std::isfinite(p.loss); });
  return kept;
}

/// Maps data to the page.
struct Axes {
  std::vector<double> x_ticks;
  std::vector<double> y_ticks;
  double last_step;

  [[nodiscard]] double x(double step) const {
    return kLeft + (step - x_ticks.front()) / (last_step - x_ticks.front()) * (kRight - kLeft);
  }
  [[nodiscard]] double y(double loss) const {
    return kBottom - (loss - y_ticks.front()) / (y_ticks.back() - y_ticks.front()) * (kBottom - kTop);
  }
};

Axes axes_of(const std::vector<LossPoint>& training, const std::vector<LossPoint>& validation) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  double last = 1;
  for (const auto* points : {&training, &validation}) {
    for (const LossPoint& p : *points) {
      low = std::min(low, p.loss);
      high = std::max(high, p.loss);
      last = std::max(last, p.step);
    }
  }
  if (low > high) low = 0, high = 1;
  Axes axes{round_ticks(0, last, 8), round_ticks(low, high, 7), last};
  // Steps are whole, and the axis ends with the run instead of at a round number.
  std::erase_if(axes.x_ticks, [&](double tick) { return tick > last || tick != std::floor(tick); });
  return axes;
}

/// At most two points per column of the page, its lowest and highest, so that a million steps draw like a thousand.
std::vector<LossPoint> thinned(const std::vector<LossPoint>& points, const Axes& axes) {
  std::vector<LossPoint> kept;
  for (std::size_t i = 0; i < points.size();) {
    const double column = std::floor(axes.x(points[i].step));
    std::size_t low = i;
    std::size_t high = i;
    for (; i < points.size() && std::floor(axes.x(points[i].step)) == column; ++i) {
      if (points[i].loss < points[low].loss) low = i;
      if (points[i].loss > points[high].loss) high = i;
    }
    kept.push_back(points[std::min(low, high)]);
    if (low != high) kept.push_back(points[std::max(low, high)]);
  }
  return kept;
}

/// Half the width, in points, of the window that smooths a curve.
std::size_t smoothing_of(const std::vector<LossPoint>& points) {
  return std::min<std::size_t>(points.size() / 80, 100);
}

/// Mean over a window centred on each point. At the start, where the curve is steep, it shrinks so as to stay centred;
/// at the end it only loses its right half, for a single noisy step is no end of a curve.
std::vector<LossPoint> smoothed(const std::vector<LossPoint>& points, std::size_t half) {
  std::vector<double> sums(points.size() + 1, 0.0);
  for (std::size_t i = 0; i < points.size(); ++i) sums[i + 1] = sums[i] + points[i].loss;
  std::vector<LossPoint> means = points;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t left = std::min(half, i);
    const std::size_t right = std::min(left, points.size() - 1 - i);
    means[i].loss = (sums[i + right + 1] - sums[i - left]) / static_cast<double>(left + right + 1);
  }
  return means;
}

std::string polyline(const std::vector<LossPoint>& points, const Axes& axes, std::string_view style) {
  std::string path;
  for (const LossPoint& p : points) path += format("{:.1f},{:.1f} ", axes.x(p.step), axes.y(p.loss));
  if (!path.empty()) path.pop_back();
  return format("<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>\n", path, style);
}

std::string text_at(double x, double y, std::string_view attributes, std::string_view text) {
  return format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes, escaped(text));
}

/// Decimals that tell neighbouring ticks apart.
int decimals_of(const std::vector<double>& ticks) {
  const double gap = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  return std::max(0, static_cast<int>(std::ceil(-std::log10(gap) - 1e-9)));
}

std::string grid(const Axes& axes) {
  std::string out;
  for (const double tick : axes.y_ticks) {
    const double y = axes.y(tick);
    out += format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e3e6ea\"/>\n", kLeft, kRight, y, y);
    out += text_at(kLeft - 10, y + 4, "text-anchor=\"end\"", format("{:.{}f}", tick, decimals_of(axes.y_ticks)));
  }
  for (const double tick : axes.x_ticks) {
    const double x = axes.x(tick);
    out += format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\" stroke=\"#e3e6ea\"/>\n", x, x, kTop, kBottom);
    out += format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\" stroke=\"#4a4f57\"/>\n", x, x, kBottom,
                  kBottom + 5);
    out += text_at(x, kBottom + 20, "text-anchor=\"middle\"", format("{:.0f}", tick));
  }
  out += format("<path d=\"M{} {}V{}H{}\" fill=\"none\" stroke=\"#4a4f57\"/>\n", kLeft, kTop, kBottom, kRight);
  out += text_at((kLeft + kRight) / 2, kHeight - 14, "text-anchor=\"middle\" font-size=\"13\"", "step");
  out += format(
      "<text transform=\"translate(22 {}) rotate(-90)\" text-anchor=\"middle\" font-size=\"13\">"
      "cross-entropy (nats per token)</text>\n",
      (kTop + kBottom) / 2);
  return out;
}

/// A row of samples and labels above the plot, where no curve can run through it.
class Legend {
 public:
  void add(std::string_view sample_style, const std::string& label, bool marker, const char* colour) {
    const double y = kTop - 20;
    out_ += format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\" {}/>\n", x_, x_ + 26, y, y, sample_style);
    if (marker) out_ += format("<circle cx=\"{:.1f}\" cy=\"{}\" r=\"3.2\" fill=\"{}\"/>\n", x_ + 13, y, colour);
    out_ += text_at(x_ + 33, y + 4, "font-size=\"13\"", label);
    // Without the font's measures: an average letter is a little over half as wide as high.
    x_ += 33 + 6.7 * static_cast<double>(label.size()) + 24;
  }
  [[nodiscard]] const std::string& text() const { return out_; }

 private:
  double x_ = kLeft;
  std::string out_;
};

}  // namespace

std::vector<double> round_ticks(double low, double high, int wanted) {
  if (!(high > low)) {
    const double margin = std::max(std::abs(low) * 0.05, 0.5);
    low -= margin;
    high += margin;
  }
  const double rough = (high - low) / wanted;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double gap = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) {
      gap = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  // Whole multiples, so that 0.3 is not 0.1 + 0.1 + 0.1; the little allowance keeps a bound that is itself round.
  const double first = std::floor(low / gap + 1e-9);
  const double last = std::ceil(high / gap - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * gap);
  return ticks;
}

LossPlot loss_plot(std::span<const MetricsRow> rows, std::string title, std::string subtitle) {
  LossPlot plot{.title = std::move(title), .subtitle = std::move(subtitle)};
  for (const MetricsRow& row : rows) {
    plot.training.push_back({static_cast<double>(row.step), row.loss});
    if (row.evaluated) plot.validation.push_back({static_cast<double>(row.step), row.val_loss});
  }
  return plot;
}

std::string loss_svg(const LossPlot& plot) {
  const auto training = finite(plot.training);
  const auto validation = finite(plot.validation);
  const Axes axes = axes_of(training, validation);
  std::string svg = format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\" "
      "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#2b2f36\">\n"
      "<title>{2}</title>\n<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight, escaped(plot.title));
  svg += text_at(kLeft, 32, "font-size=\"18\" font-weight=\"bold\"", plot.title);
  if (!plot.subtitle.empty()) svg += text_at(kLeft, 51, "fill=\"#6b7280\"", plot.subtitle);
  svg += grid(axes);

  Legend legend;
  if (!training.empty()) {
    const std::size_t half = smoothing_of(training);
    const std::string thin = format("stroke=\"{}\" stroke-width=\"1\" stroke-opacity=\"0.3\"", kTrainingColour);
    const std::string thick = format("stroke=\"{}\" stroke-width=\"2.2\"", kTrainingColour);
    if (half > 0) {
      svg += polyline(thinned(training, axes), axes, thin);
      legend.add(thin, "training, each step", false, kTrainingColour);
    }
    svg += polyline(thinned(smoothed(training, half), axes), axes, thick);
    legend.add(thick, half > 0 ? format("training, mean of {} steps", 2 * half + 1) : "training", false,
               kTrainingColour);
  }
  if (!validation.empty()) {
    const std::string style = format("stroke=\"{}\" stroke-width=\"2.2\"", kValidationColour);
    svg += polyline(validation, axes, style);
    const bool few = validation.size() <= 80;
    for (const LossPoint& p : validation) {
      if (!few) break;
      svg += format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.2\" fill=\"{}\"/>\n", axes.x(p.step), axes.y(p.loss),
                    kValidationColour);
    }
    const LossPoint best = *std::min_element(validation.begin(), validation.end(),
                                             [](const auto& a, const auto& b) { return a.loss < b.loss; });
    svg += format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6.5\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n",
                  axes.x(best.step), axes.y(best.loss), kValidationColour);
    legend.add(style, format("validation (best {:.4f} at step {:.0f})", best.loss, best.step), few, kValidationColour);
  }
  if (training.empty() && validation.empty()) {
    svg +=
        text_at((kLeft + kRight) / 2, (kTop + kBottom) / 2, "text-anchor=\"middle\" fill=\"#6b7280\"", "no steps yet");
  }
  return svg + legend.text() + "</svg>\n";
}

}  // namespace trinix::tools
