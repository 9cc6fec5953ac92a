#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// @file
/// Numbers as text, strictly and whatever the locale.

namespace trinix::tools {

/// A decimal integer and nothing else: no spaces, no trailing text. @returns nothing unless it is one and fits
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view text);

/// A finite decimal number such as "0.001", "1e-3" or "-2", and nothing else; "nan", "inf" and what overflows are none.
/// What is closer to zero than the smallest number is none either, for it was not written to mean zero.
[[nodiscard]] std::optional<double> parse_real(std::string_view text);

/// The shortest text that reads back as the same number: "0.0001", "1e-05".
[[nodiscard]] std::string real_text(double value);

}  // namespace trinix::tools
