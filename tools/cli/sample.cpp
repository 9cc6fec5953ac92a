#include "cli/commands.h"

#include <cstdio>
#include <memory>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/sample_config.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::cli {

namespace {

using tools::SampleConfig;

/// The values as given; empty where the default holds.
struct SampleText {
  std::string run;
  std::string prompt;
  std::string tokens;
  std::string temperature;
  std::string top_k;
  std::string top_p;
  std::string seed;
  std::string device;
};

SampleConfig read(const CLI::App& command, const SampleText& text) {
  SampleConfig config;
  const auto given = [&](const char* flag) { return command.count(flag) > 0; };
  const auto read_count = [&](const char* flag, const std::string& value, std::int64_t& into) {
    if (!given(flag)) return;
    const auto parsed = tools::parse_integer(value);
    if (!parsed) detail::fail<ConfigError>("config", "{} must be a whole number, not '{}'", flag, value);
    into = *parsed;
  };
  const auto read_number = [&](const char* flag, const std::string& value, double& into) {
    if (!given(flag)) return;
    const auto parsed = tools::parse_real(value);
    if (!parsed) detail::fail<ConfigError>("config", "{} must be a finite number, not '{}'", flag, value);
    into = *parsed;
  };
  if (given("--run")) config.run = text.run;
  if (given("--prompt")) config.prompt = text.prompt;
  read_count("--tokens", text.tokens, config.tokens);
  read_number("--temperature", text.temperature, config.temperature);
  read_count("--top-k", text.top_k, config.top_k);
  read_number("--top-p", text.top_p, config.top_p);
  read_count("--seed", text.seed, config.seed);
  if (given("--device")) config.device = text.device;
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

void add_sample(CLI::App& program, Run& run) {
  CLI::App* command = program.add_subcommand("sample", "Write text with a trained model");
  auto text = std::make_shared<SampleText>();
  const SampleConfig defaults;
  const auto add = [&](const char* flag, std::string& into, const char* type, const std::string& usual,
                       const char* help) {
    command->add_option(flag, into, help)->type_name(type)->default_str(usual)->take_last();
  };
  add("--run", text->run, "DIR", defaults.run, "folder of the run");
  add("--prompt", text->prompt, "TEXT", "a line break", "what the text begins with");
  add("--tokens", text->tokens, "COUNT", std::to_string(defaults.tokens), "how many tokens to write");
  add("--temperature", text->temperature, "NUMBER", tools::real_text(defaults.temperature),
      "divides the logits; 0 always takes the likeliest token");
  add("--top-k", text->top_k, "COUNT", std::to_string(defaults.top_k),
      "choose among this many likeliest tokens; 0 among all");
  add("--top-p", text->top_p, "NUMBER", tools::real_text(defaults.top_p),
      "choose among the likeliest tokens whose probabilities reach this sum; 1 among all");
  add("--seed", text->seed, "COUNT", std::to_string(defaults.seed), "seed of the choices");
  add("--device", text->device, "TEXT", defaults.device, "cpu, cuda or cuda:N");
  command->callback([command, text, &run] { run = [config = read(*command, *text)] { return run_sample(config); }; });
}

}  // namespace trinix::cli
