#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

/// @file
/// Shapes and strides: short, fixed-capacity lists of 64-bit integers that never allocate.

namespace trinix {

/// Most dimensions a tensor can have.
inline constexpr int kMaxRank = 8;

/// A list of at most kMaxRank integers: a shape, a stride list, or a list of dims.
class Dims {
 public:
  Dims() = default;
  /// @throws ShapeError when more than kMaxRank values are given.
  Dims(std::initializer_list<std::int64_t> values) : Dims(std::span(values.begin(), values.size())) {}
  explicit Dims(std::span<const std::int64_t> values);
  explicit Dims(const std::vector<std::int64_t>& values) : Dims(std::span(values)) {}
  /// `count` copies of `value`.
  static Dims filled(int count, std::int64_t value);

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  std::int64_t& operator[](int i) { return values_[static_cast<std::size_t>(i)]; }
  const std::int64_t& operator[](int i) const { return values_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int64_t back() const { return values_[static_cast<std::size_t>(size_ - 1)]; }
  [[nodiscard]] const std::int64_t* begin() const { return values_.data(); }
  [[nodiscard]] const std::int64_t* end() const { return values_.data() + size_; }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + size_; }

  /// @throws ShapeError when the list is full.
  void push_back(std::int64_t value);
  void insert(int at, std::int64_t value);
  void erase(int at);
  [[nodiscard]] bool contains(std::int64_t value) const;

  [[nodiscard]] std::vector<std::int64_t> to_vector() const { return {begin(), end()}; }
  /// "[2, 3, 4]"
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Dims& a, const Dims& b) {
    if (a.size_ != b.size_) return false;
    for (int i = 0; i < a.size_; ++i) {
      if (a[i] != b[i]) return false;
    }
    return true;
  }

 private:
  std::array<std::int64_t, kMaxRank> values_{};
  int size_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// Number of elements. @throws ShapeError for a negative dimension or a product beyond 63 bits.
[[nodiscard]] std::int64_t numel(const Shape& shape);

/// Row-major strides, in elements.
[[nodiscard]] Strides contiguous_strides(const Shape& shape);

/// Shape that both broadcast to, by NumPy's rule. @throws ShapeError naming `op` and both shapes.
[[nodiscard]] Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

/// Turns a dim in [-rank, rank) into [0, rank). @throws IndexError naming `op`, the dim and the rank.
[[nodiscard]] int wrap_dim(const char* op, std::int64_t dim, int rank);

/// Wraps each dim, rejects repeats, and sorts. An empty list means every dim. @throws IndexError.
[[nodiscard]] Dims wrap_dims(const char* op, const Dims& dims, int rank);

}  // namespace trinix
