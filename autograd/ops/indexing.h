#pragma once

#include <utility>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Picking and placing elements by index tensors (i64 or i32; negative indices are refused), sorting, triangles.
/// @throws IndexError naming the index, its place and the size it exceeds: on the CPU at once, on CUDA at the next
/// synchronisation (an item(), a copy to the host), for nobody waits for the card to look; DtypeError for a non-integer
/// index.

namespace trinix {

/// out[i][j][k] = x[index[i][j][k]][j][k] for dim 0, and so on; index has x's rank.
[[nodiscard]] Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index);
/// A copy of x with source[i][j][k] added at [index[i][j][k]][j][k] for dim 0, and so on. Deterministic.
[[nodiscard]] Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);
/// The given positions of one dim; index has one dim. Repeats are allowed.
[[nodiscard]] Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index);
/// A copy of x with slice i of source added to slice index[i]. Deterministic.
[[nodiscard]] Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);
/// x[indices[0], indices[1], ...]: index tensors for the leading dims, broadcast together; their shape comes first in
/// the result, the remaining dims of x follow.
[[nodiscard]] Tensor take(const Tensor& x, const std::vector<Tensor>& indices);
/// Rows of weight (V, C) for indices of any shape: (...) -> (..., C). The backward adds in index order: deterministic.
[[nodiscard]] Tensor embedding(const Tensor& indices, const Tensor& weight);
/// (...) -> (..., classes), i64.
[[nodiscard]] Tensor one_hot(const Tensor& indices, std::int64_t classes);

/// Values in order along `dim`, and their i64 positions; stable. NaN counts as largest.
[[nodiscard]] std::pair<Tensor, Tensor> sort(const Tensor& x, std::int64_t dim = -1, bool descending = false);
/// The k largest (or smallest) along `dim`, in order, and their positions.
[[nodiscard]] std::pair<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, std::int64_t dim = -1,
                                             bool largest = true);

/// Keeps elements on and below (above) the diagonal of the last two dims, zeros the rest.
[[nodiscard]] Tensor tril(const Tensor& x, std::int64_t diagonal = 0);
[[nodiscard]] Tensor triu(const Tensor& x, std::int64_t diagonal = 0);

}  // namespace trinix
