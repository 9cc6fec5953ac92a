#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <trinix/autograd/backward_context.h>

/// @file
/// A backward inside a backward, over a graph that was recorded a moment ago and hangs on an older one. Private.

namespace trinix::detail {

/// Runs backward from `outputs` over the nodes numbered `first` and later, and ends at the older nodes, which are
/// neither run nor released. Returns the gradient that arrives at each of `ends` for which it is wanted (undefined
/// where none arrives); those wanted in_leaf are added to the leaf's grad() instead. Hooks of the ends are left to the
/// outer run.
[[nodiscard]] std::vector<Tensor> backward_within(std::uint64_t first, std::span<const Tensor> outputs,
                                                  std::span<const Tensor> gradients, std::span<const Edge> ends,
                                                  const std::vector<GradWanted>& wanted);

}  // namespace trinix::detail
