#pragma once

#include <string>

#include <trinix/layers/module.h>

/// @file
/// A model at a glance.

namespace trinix::nn {

struct SummaryOptions {
  /// How many levels below the model are listed; what lies deeper is counted with its parent. Negative: all.
  int depth = -1;
};

/// A table with a line for each module: its name in the tree and class, the shapes of its own parameters, and how many
/// values it and everything below it hold. Tied parameters count where they come first. The last lines give the totals
/// and the memory of parameters and buffers.
[[nodiscard]] std::string summary(const Module& model, const SummaryOptions& options = {});

}  // namespace trinix::nn
