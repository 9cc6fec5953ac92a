#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// @file
/// UTF-8, strictly: overlong forms, surrogates and values beyond U+10FFFF are invalid (Unicode 15, table 3-7).

namespace trinix::tools::utf8 {

/// One character of a text.
struct Character {
  char32_t code = 0;       ///< its code point
  std::size_t length = 0;  ///< its bytes, 1 to 4; 0 where the bytes are no valid UTF-8
};

/// The character at `position`, which must lie inside the text.
[[nodiscard]] Character decode(std::string_view text, std::size_t position);

/// Appends the character's bytes. @pre it is a code point and no surrogate.
void append(std::string& text, char32_t code);

/// "U+00E9 'é'", or "U+000A" for what does not print.
[[nodiscard]] std::string describe(char32_t code);

}  // namespace trinix::tools::utf8
