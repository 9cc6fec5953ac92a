#include "cli/commands.h"

#include <cstdio>
#include <string>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/sample_config.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::cli {

namespace {

using tools::SampleConfig;

SampleConfig read(const Command& command) {
  SampleConfig config;
  const auto read_count = [&](const char* flag, std::int64_t& into) {
    const std::string* value = command.given(flag);
    if (value == nullptr) return;
    const auto parsed = tools::parse_integer(*value);
    if (!parsed) detail::fail<ConfigError>("config", "{} must be a whole number, not '{}'", flag, *value);
    into = *parsed;
  };
  const auto read_number = [&](const char* flag, double& into) {
    const std::string* value = command.given(flag);
    if (value == nullptr) return;
    const auto parsed = tools::parse_real(*value);
    if (!parsed) detail::fail<ConfigError>("config", "{} must be a finite number, not '{}'", flag, *value);
    into = *parsed;
  };
  if (const std::string* run = command.given("--run")) config.run = *run;
  if (const std::string* prompt = command.given("--prompt")) config.prompt = *prompt;
  read_count("--tokens", config.tokens);
  read_number("--temperature", config.temperature);
  read_count("--top-k", config.top_k);
  read_number("--top-p", config.top_p);
  read_count("--seed", config.seed);
  if (const std::string* device = command.given("--device")) config.device = *device;
  validate(config);
  return config;
}

int run_sample(const SampleConfig& config) {
  const auto print = [](std::string_view text) {
    // A reader that has gone away ends the text.
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  };
  print(config.prompt);
  static_cast<void>(tools::write_text(config, print));
  print("\n");
  return 0;
}

}  // namespace

Command sample_command() {
  Command command("sample", "Write text with a trained model",
                  [](const Command& given) -> Run { return [config = read(given)] { return run_sample(config); }; });
  const SampleConfig defaults;
  const auto add = [&](const char* flag, const char* type, const std::string& usual, const char* help) {
    command.add({.name = flag, .help = help, .type = type, .usual = usual});
  };
  add("--run", "DIR", defaults.run, "folder of the run");
  add("--prompt", "TEXT", "a line break", "what the text begins with");
  add("--tokens", "COUNT", std::to_string(defaults.tokens), "how many tokens to write");
  add("--temperature", "NUMBER", tools::real_text(defaults.temperature),
      "divides the logits; 0 always takes the likeliest token");
  add("--top-k", "COUNT", std::to_string(defaults.top_k), "choose among this many likeliest tokens; 0 among all");
  add("--top-p", "NUMBER", tools::real_text(defaults.top_p),
      "choose among the likeliest tokens whose probabilities reach this sum; 1 among all");
  add("--seed", "COUNT", std::to_string(defaults.seed), "seed of the choices");
  add("--device", "TEXT", defaults.device, "cpu, cuda or cuda:N");
  return command;
}

}  // namespace trinix::cli
