#include <cmath>

#include <trinix/core/detail/fail.h>
#include <trinix/core/device.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/sample_config.h>

namespace trinix::tools {

void validate(const SampleConfig& c) {
  const auto require_count = [](const char* flag, std::int64_t value) {
    if (value < 0) detail::fail<ConfigError>("config", "{} must be at least 0, not {}", flag, value);
  };
  if (c.run.empty()) detail::fail<ConfigError>("config", "--run must name the folder of a run");
  require_count("--tokens", c.tokens);
  require_count("--top-k", c.top_k);
  require_count("--seed", c.seed);
  if (!std::isfinite(c.temperature) || c.temperature < 0) {
    detail::fail<ConfigError>("config", "--temperature must be a finite number of at least 0, not {}",
                              real_text(c.temperature));
  }
  if (!(c.top_p > 0 && c.top_p <= 1)) {
    detail::fail<ConfigError>("config", "--top-p must lie above 0 and be at most 1, not {}", real_text(c.top_p));
  }
  static_cast<void>(Device::parse(c.device));
}

}  // namespace trinix::tools
