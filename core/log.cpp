#include <cstdio>
#include <utility>

#include <trinix/core/log.h>

namespace trinix {

namespace {
std::function<void(std::string_view)>& handler() {
  static std::function<void(std::string_view)> current = [](std::string_view text) {
    std::fprintf(stderr, "trinix: %.*s\n", static_cast<int>(text.size()), text.data());
  };
  return current;
}
}  // namespace

void set_log_handler(std::function<void(std::string_view)> replacement) { handler() = std::move(replacement); }

void log(std::string_view message) {
  if (handler()) handler()(message);
}

}  // namespace trinix
