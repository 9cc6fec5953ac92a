#include <charconv>
#include <cmath>
#include <system_error>

#include <trinix/core/detail/fail.h>
#include <trinix/tools/lib/number.h>

namespace trinix::tools {

namespace {

template <class T>
std::optional<T> parse(std::string_view text) {
  T value{};
  // from_chars takes no plus sign, people do.
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text) { return parse<std::int64_t>(text); }

std::optional<double> parse_real(std::string_view text) {
  const auto value = parse<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::string real_text(double value) {
  // The formatting library, and not std::to_chars, whose tables would make a static program 130 KB larger.
  return detail::format("{}", value);
}

}  // namespace trinix::tools
