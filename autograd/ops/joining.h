#pragma once

#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Joining tensors and taking them apart.

namespace trinix {

/// Along an existing dim; the other dims must agree. Dtypes are promoted. @throws ShapeError naming both shapes.
[[nodiscard]] Tensor cat(const std::vector<Tensor>& tensors, std::int64_t dim = 0);
/// Along a new dim; all shapes must agree.
[[nodiscard]] Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dim = 0);
/// Views of `size` elements along dim each, the last one possibly shorter.
[[nodiscard]] std::vector<Tensor> split(const Tensor& x, std::int64_t size, std::int64_t dim = 0);
/// Views of the given sizes, which must add up to the dim.
[[nodiscard]] std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, std::int64_t dim = 0);
/// At most `count` views of equal size, the last one possibly shorter.
[[nodiscard]] std::vector<Tensor> chunk(const Tensor& x, std::int64_t count, std::int64_t dim = 0);

}  // namespace trinix
