#pragma once

#include <cstdint>

#include <trinix/backends/cuda/scratch.h>

/// @file
/// Stable sorting of keys with the numbers they carry, on the card. By cub::DeviceRadixSort, compiled once for the ops
/// that need it.

namespace trinix::cuda {

/// Keys of type K, each with a number, that are to be sorted: fill `keys` and `numbers`, call sort(), and read them.
template <class K>
class SortedPairs {
 public:
  SortedPairs(std::int64_t count, const Stream& stream)
      : count_(count),
        keys_(static_cast<std::size_t>(2 * count) * sizeof(K), stream),
        numbers_(static_cast<std::size_t>(2 * count) * sizeof(std::uint32_t), stream) {}

  [[nodiscard]] K* keys() const { return keys_.template as<K>() + (second_ ? count_ : 0); }
  [[nodiscard]] std::uint32_t* numbers() const {
    return numbers_.template as<std::uint32_t>() + (second_ ? count_ : 0);
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  /// By the lowest `bits` bits of the keys; pairs of equal keys keep their order. Nothing is waited for.
  void sort(int bits, const Stream& stream);

 private:
  std::int64_t count_;
  Scratch keys_;
  Scratch numbers_;
  bool second_ = false;  ///< which half holds the pairs
};

/// Bits that hold the numbers 0 to n - 1.
[[nodiscard]] constexpr int bits_for(std::uint64_t n) {
  int bits = 1;
  while (bits < 64 && (std::uint64_t{1} << bits) < n) ++bits;
  return bits;
}

}  // namespace trinix::cuda
