#include <fmt/args.h>
#include <fmt/format.h>

#include <trinix/core/detail/fail.h>

namespace trinix::detail {

std::string vformat(std::string_view text, const FormatArg* args, std::size_t count) {
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  for (std::size_t i = 0; i < count; ++i) {
    std::visit([&](const auto& v) { store.push_back(v); }, args[i].value);
  }
  return fmt::vformat(fmt::string_view(text.data(), text.size()), store);
}

}  // namespace trinix::detail
