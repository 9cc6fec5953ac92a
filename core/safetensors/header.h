#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <trinix/core/safetensors.h>

/// @file
/// The two steps of checking a file's head: its length, then its text. Private to core/safetensors.

namespace trinix::safetensors {

inline constexpr std::uint64_t kLengthBytes = 8;
inline constexpr std::uint64_t kLargestHeader = 100'000'000;

/// Length of the JSON that follows, checked against the file's size. `head` is the first 8 bytes, or all there are.
/// @throws FormatError.
[[nodiscard]] std::uint64_t header_length(std::span<const std::byte> head, std::uint64_t file_size,
                                          std::string_view file);

/// Parses the JSON, and checks every entry against the others and against the file's size. @throws FormatError.
[[nodiscard]] SafetensorsHeader parse_header(std::string_view json, std::uint64_t file_size, std::string_view file,
                                             const SafetensorsOptions& options);

}  // namespace trinix::safetensors
