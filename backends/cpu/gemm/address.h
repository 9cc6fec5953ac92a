#pragma once

#include <cstdint>

#include <trinix/core/dtype.h>

/// @file
/// Address arithmetic on untyped memory.

namespace trinix::cpu::internal {

/// The address `elements` elements of a dtype beyond `base`; a null base stays null.
[[nodiscard]] inline const void* advance(const void* base, std::int64_t elements, DType t) {
  if (base == nullptr) return nullptr;
  return static_cast<const char*>(base) + elements * static_cast<std::int64_t>(size_of(t));
}
[[nodiscard]] inline void* advance(void* base, std::int64_t elements, DType t) {
  if (base == nullptr) return nullptr;
  return static_cast<char*>(base) + elements * static_cast<std::int64_t>(size_of(t));
}

}  // namespace trinix::cpu::internal
