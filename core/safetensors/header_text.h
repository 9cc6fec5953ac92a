#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <trinix/core/safetensors.h>

/// @file
/// What the header's JSON says, entry by entry, before its numbers are checked against each other and the file.
/// Private to core/safetensors.

namespace trinix::safetensors {

inline constexpr std::string_view kMetadataKey = "__metadata__";

struct HeaderText {
  std::vector<SafetensorsInfo> tensors;                       ///< in the order of the text; names may repeat
  std::vector<std::pair<std::string, std::string>> metadata;  ///< likewise
};

/// Accepts what the format allows of one entry on its own: its fields and their types, dtypes that are defined, dims of
/// 0 to 2^53. `file` is only named in errors. @throws FormatError.
[[nodiscard]] HeaderText parse_json(std::string_view json, std::string_view file);

/// A name as an error may show it: in quotes, cut to a readable length, without control characters.
[[nodiscard]] std::string shown_name(std::string_view name);

}  // namespace trinix::safetensors
