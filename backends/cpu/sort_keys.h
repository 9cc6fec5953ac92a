#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <trinix/core/dtype.h>

/// @file
/// Values as unsigned keys in the same order, paired with their positions: pairs are all different, so any sort of them
/// is a stable sort of the values.

namespace trinix::cpu {

/// The pair in one word, for types of up to 32 bits and lines of fewer than 2^32 elements.
struct PackedEntry {
  std::uint64_t word;
  [[nodiscard]] std::int64_t position() const { return static_cast<std::int64_t>(word & 0xffffffffU); }
  friend bool operator<(PackedEntry a, PackedEntry b) { return a.word < b.word; }
};

struct WideEntry {
  std::uint64_t key;
  std::int64_t at;
  [[nodiscard]] std::int64_t position() const { return at; }
  friend bool operator<(const WideEntry& a, const WideEntry& b) { return a.key != b.key ? a.key < b.key : a.at < b.at; }
};

/// An unsigned number that orders as the value does: NaN above everything, -0 with 0. 32 bits where they suffice.
template <class T>
auto sort_key(T value) {
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::uint8_t>) {
    return static_cast<std::uint32_t>(value);
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<U>(static_cast<U>(value) ^ (U{1} << (8 * sizeof(T) - 1)));
  } else {
    using F = compute_t<T>;
    using U = std::conditional_t<sizeof(F) == 8, std::uint64_t, std::uint32_t>;
    const F x = static_cast<F>(value) + F(0);  // turns -0 into 0
    const U bits = std::bit_cast<U>(x);
    const U sign = U{1} << (8 * sizeof(U) - 1);
    const U key = (bits & sign) != 0 ? static_cast<U>(~bits) : static_cast<U>(bits | sign);
    return x != x ? std::numeric_limits<U>::max() : key;
  }
}

/// Entries that sort ascending by themselves; for descending order the key is complemented.
template <class Entry, class T>
Entry make_entry(T value, std::int64_t position, bool descending) {
  const auto plain = sort_key(value);
  using U = decltype(plain);
  const auto key = static_cast<std::remove_const_t<U>>(descending ? ~plain : plain);
  if constexpr (std::is_same_v<Entry, PackedEntry>) {
    static_assert(sizeof(key) == 4);
    return {std::uint64_t{key} << 32 | static_cast<std::uint64_t>(position)};
  } else {
    return {std::uint64_t{key}, position};
  }
}

/// Calls f.operator()<Entry>() with the smallest entry type for T and lines of n elements.
template <class T, class F>
decltype(auto) dispatch_entry(std::int64_t n, F&& f) {
  if constexpr (sizeof(sort_key(T{})) == 4) {
    if (n <= std::int64_t{0xffffffff}) return f.template operator()<PackedEntry>();
  }
  return f.template operator()<WideEntry>();
}

}  // namespace trinix::cpu
