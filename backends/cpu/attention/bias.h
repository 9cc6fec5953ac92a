#pragma once

#include <cstring>

#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/backends/cpu/attention/tile_product.h>

/// @file
/// What is added to the scores: ALiBi, which is computed where it is needed, and masks, of which a tile at a time is
/// brought into f32 with -inf for what is hidden.

namespace trinix::cpu::internal {

/// Where scores stay finite: a mask of the lowest number of its dtype hides less than -inf does. A row of nothing but
/// such scores is an even mean, as it is in exact arithmetic, and it lies above the maximum that rows begin with.
inline constexpr float kLowestScore = -1e38F;

class AttentionBias {
 public:
  explicit AttentionBias(const Attention::Inputs& in) : alibi_(in.alibi), mask_(in.mask) {}

  [[nodiscard]] bool any() const { return alibi_.defined || mask_.defined; }
  [[nodiscard]] bool has_mask() const { return mask_.defined; }

  /// Slope of one head; 0 without ALiBi.
  [[nodiscard]] float slope(const AttentionSequence& s, std::int64_t h) const {
    if (!alibi_.defined) return 0;
    return alibi_.as<float>()[s.index * alibi_.strides[0] + h * alibi_.strides[1]];
  }

  /// Rows [i0, i0 + rows) and columns [j0, j0 + cols) of one head's mask, at to[row * pitch + column]. Returns whether
  /// any of it is visible.
  bool pack_rows(const AttentionSequence& s, std::int64_t h, std::int64_t i0, std::int64_t rows, std::int64_t j0,
                 std::int64_t cols, std::int64_t pitch, float* to) const {
    const HeadRows from = rows_at(s, h, j0);
    if (from.dtype == DType::boolean) {
      for (std::int64_t r = 0; r < rows; ++r) widen(from, i0 + r, cols, to + r * pitch);
    } else {
      pack_components(from, i0, rows, cols, pitch, to);
    }
    return any_visible(rows, cols, pitch, to);
  }

  /// The same turned, at to[column * width + row], with zeros for rows up to `width`. `spare` has room for a copy.
  bool pack_columns(const AttentionSequence& s, std::int64_t h, std::int64_t i0, std::int64_t rows, std::int64_t j0,
                    std::int64_t cols, std::int64_t width, float* spare, float* to) const {
    HeadRows from = rows_at(s, h, j0);
    std::int64_t first = i0;
    if (from.dtype == DType::boolean) {
      for (std::int64_t r = 0; r < rows; ++r) widen(from, i0 + r, cols, spare + r * cols);
      from = {spare, DType::f32, cols, 1};
      first = 0;
    }
    pack_positions(from, first, rows, first + rows, cols, width, to);
    return any_visible(cols, rows, width, to);
  }

  /// A score with its share of a mask: -inf where that is -inf, whatever the score.
  static TRINIX_INLINE Lanes add(Lanes score, Lanes mask) {
    const Lanes sum = score + select(mask < kLowestScore, broadcast(kLowestScore), mask);
    return select(mask == kMinusInfinity, broadcast(kMinusInfinity), sum);
  }

 private:
  [[nodiscard]] HeadRows rows_at(const AttentionSequence& s, std::int64_t h, std::int64_t j0) const {
    return {advance(mask_.data, s.index * mask_.strides[0] + h * mask_.strides[1] + j0 * mask_.strides[3], mask_.dtype),
            mask_.dtype, mask_.strides[2], mask_.strides[3]};
  }

  static void widen(const HeadRows& from, std::int64_t row, std::int64_t cols, float* to) {
    const auto* visible = static_cast<const std::uint8_t*>(from.data) + row * from.row;
    if (from.col == 1) {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) to[c] = visible[c] != 0 ? 0.0F : kMinusInfinity;
    } else {
      for (std::int64_t c = 0; c < cols; ++c) to[c] = visible[c * from.col] != 0 ? 0.0F : kMinusInfinity;
    }
  }

  static bool any_visible(std::int64_t rows, std::int64_t cols, std::int64_t pitch, const float* tile) {
    for (std::int64_t r = 0; r < rows; ++r) {
      int visible = 0;
#pragma omp simd reduction(| : visible)
      for (std::int64_t c = 0; c < cols; ++c) visible |= static_cast<int>(tile[r * pitch + c] != kMinusInfinity);
      if (visible != 0) return true;
    }
    return false;
  }

  View alibi_;
  View mask_;
};

/// Positions packed by components in which something is not finite. A product over positions would bring it, times the
/// 0 of a hidden pair, to everyone. So it is left out of the product, and added for those who see it.
class StrayRows {
 public:
  /// `list` has room for every position that is looked at.
  explicit StrayRows(float* list) : list_(list) {}

  /// Looks at `count` positions of `padded` components each, the first of them being number `first`, and zeroes those
  /// that are not finite.
  void take_out(float* rows, std::int64_t first, std::int64_t count, std::int64_t padded) {
    for (std::int64_t r = 0; r < count; ++r) {
      float* row = rows + r * padded;
      Lanes check = {};  // 0 * x is NaN unless x is finite
      for (std::int64_t c = 0; c < padded; c += kLanes) check += load(row + c) * 0.0F;
      if (horizontal_sum<float>(check) == 0.0F) continue;
      std::fill(row, row + padded, 0.0F);
      const auto position = static_cast<std::int32_t>(first + r);
      std::memcpy(list_ + count_++, &position, sizeof position);
    }
  }
  void clear() { count_ = 0; }
  [[nodiscard]] bool empty() const { return count_ == 0; }

  /// sums[r] += alpha * weight(r, position - begin) * original position, for the positions taken out of [begin, end)
  /// and r in [0, rows). A weight of 0 adds nothing. `row` holds one position.
  template <class Weight>
  void add(const HeadRows& head, std::int64_t begin, std::int64_t end, std::int64_t rows, std::int64_t depth,
           std::int64_t padded, float alpha, float* row, float* sums, Weight&& weight) const {
    for (std::int64_t n = 0; n < count_; ++n) {
      std::int32_t position;
      std::memcpy(&position, list_ + n, sizeof position);
      if (position < begin || position >= end) continue;
      pack_components(head, position, 1, depth, padded, row);
      for (std::int64_t r = 0; r < rows; ++r) {
        const float w = weight(r, position - begin);
        if (w == 0.0F) continue;
        for (std::int64_t c = 0; c < padded; c += kLanes) {
          store(sums + r * padded + c, load(sums + r * padded + c) + load(row + c) * (alpha * w));
        }
      }
    }
  }

 private:
  float* list_;
  std::int64_t count_ = 0;
};

}  // namespace trinix::cpu::internal
