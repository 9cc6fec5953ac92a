#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <trinix/core/dtype.h>

/// @file
/// The dtypes of the safetensors format. Private to core/safetensors.

namespace trinix::safetensors {

/// A dtype that the format defines, whether the library has it or not.
struct FileDtype {
  std::string_view name;
  int bits;  ///< per element; the sub-byte types are packed
  std::optional<DType> dtype;
};

/// nullptr for a name that the format does not define.
[[nodiscard]] const FileDtype* find_dtype(std::string_view name);
[[nodiscard]] const FileDtype& file_dtype(DType dtype);
/// Where the reference implementation's writer puts the dtype: lower goes first.
[[nodiscard]] int write_order(DType dtype);
/// "BOOL, U8, ..." of those that can be read.
[[nodiscard]] std::string readable_names();

}  // namespace trinix::safetensors
