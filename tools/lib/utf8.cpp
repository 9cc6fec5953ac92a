#include <cstdint>
#include <cstdio>

#include <trinix/tools/lib/utf8.h>

namespace trinix::tools::utf8 {

Character decode(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return position + i < text.size() ? static_cast<unsigned char>(text[position + i]) : 0U;
  };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xC2) return {};
  if (first < 0xE0) {
    if (!follows(1)) return {};
    return {(first & 0x1FU) << 6 | (byte(1) & 0x3FU), 2};
  }
  if (first < 0xF0) {
    if (!follows(1) || !follows(2)) return {};
    const std::uint32_t code = (first & 0x0FU) << 12 | (byte(1) & 0x3FU) << 6 | (byte(2) & 0x3FU);
    if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return {};
    return {code, 3};
  }
  if (first < 0xF5) {
    if (!follows(1) || !follows(2) || !follows(3)) return {};
    const std::uint32_t code =
        (first & 0x07U) << 18 | (byte(1) & 0x3FU) << 12 | (byte(2) & 0x3FU) << 6 | (byte(3) & 0x3FU);
    if (code < 0x10000 || code > 0x10FFFF) return {};
    return {code, 4};
  }
  return {};
}

void append(std::string& text, char32_t code) {
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  const auto tail = [&](int shift) { put(0x80U | (code >> shift & 0x3FU)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    put(0xE0U | code >> 12);
    tail(6);
    tail(0);
  } else {
    put(0xF0U | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string describe(char32_t code) {
  char number[16];
  std::snprintf(number, sizeof number, "U+%04X", static_cast<unsigned>(code));
  std::string text = number;
  if (code >= 0x20 && (code < 0x7F || code >= 0xA0)) {
    text += " '";
    append(text, code);
    text += "'";
  }
  return text;
}

}  // namespace trinix::tools::utf8
