#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include <trinix/core/device.h>
#include <trinix/core/dtype.h>
#include <trinix/core/shape.h>

/// @file
/// Builds the text of errors. Private: the formatting library is seen by format.cpp alone, which keeps it out of every
/// other translation unit.

namespace trinix::detail {

/// One argument of a message, already reduced to something printable.
class FormatArg {
 public:
  using Value = std::variant<std::int64_t, std::uint64_t, double, std::string>;

  FormatArg(bool v) : value(std::string(v ? "true" : "false")) {}
  template <std::signed_integral T>
  FormatArg(T v) : value(static_cast<std::int64_t>(v)) {}
  template <std::unsigned_integral T>
  FormatArg(T v) : value(static_cast<std::uint64_t>(v)) {}
  FormatArg(double v) : value(v) {}
  FormatArg(const char* v) : value(std::string(v)) {}
  FormatArg(std::string_view v) : value(std::string(v)) {}
  FormatArg(const std::string& v) : value(v) {}
  FormatArg(const Dims& v) : value(v.to_string()) {}
  FormatArg(DType v) : value(std::string(name(v))) {}
  FormatArg(Device v) : value(v.to_string()) {}

  Value value;
};

/// fmt-style formatting ("{}", "{:.3f}", ...) of type-erased arguments.
[[nodiscard]] std::string vformat(std::string_view text, const FormatArg* args, std::size_t count);

template <class... Args>
[[nodiscard]] std::string format(std::string_view text, const Args&... args) {
  const FormatArg list[] = {FormatArg(args)..., FormatArg("")};
  return vformat(text, list, sizeof...(args));
}

/// Throws E with the message "[op] text".
template <class E, class... Args>
[[noreturn]] void fail(std::string_view op, std::string_view text, const Args&... args) {
  throw E("[" + std::string(op) + "] " + format(text, args...));
}

}  // namespace trinix::detail
