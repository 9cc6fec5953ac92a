#include "cli/commands.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/core/error.h>

namespace trinix::cli {

namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

int complain(const std::string& message, int code) {
  std::fflush(stdout);
  std::fprintf(stderr, "trinix: %s\n", message.c_str());
  return code;
}

int run_guarded(const Run& run) {
  try {
    return run();
  } catch (const ConfigError& error) {
    return complain(error.what(), kWrongUse);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}

/// Help of the program as a whole.
std::string help_text(const std::vector<Command>& commands) {
  std::string text = "Train and run transformers\nUsage: trinix [OPTIONS] COMMAND\n\nOptions:\n" +
                     help_line("-h, --help", "print this and exit") +
                     help_line("--version", "print the version and exit") + "\nCommands:\n";
  for (const Command& command : commands) text += help_line(command.name(), command.summary());
  return text;
}

/// Reads the command line and, unless it only asked for a text, does what it says. @returns the exit code
int run(std::span<char* const> words) {
  std::vector<Command> commands = {train_command(), sample_command(), info_command(), kernels_command()};
  if (words.empty()) return complain("a command is required (trinix --help lists them)", kWrongUse);
  const std::string_view word = words[0];
  if (word == "--help" || word == "-h") {
    std::fputs(help_text(commands).c_str(), stdout);
    return 0;
  }
  if (word == "--version") {
    std::puts(version_text().c_str());
    return 0;
  }
  const auto command = std::find_if(commands.begin(), commands.end(), [&](auto& c) { return c.name() == word; });
  if (command == commands.end()) {
    const std::string what = word.starts_with('-') ? "option" : "command";
    return complain("there is no " + what + " '" + std::string(word) + "' (trinix --help lists them)", kWrongUse);
  }
  Run action;
  try {
    if (!command->parse(words.subspan(1))) {
      std::fputs(command->help().c_str(), stdout);
      return 0;
    }
    action = command->prepare();
  } catch (const UsageError& error) {
    return complain(std::string(error.what()) + " (trinix " + command->name() + " --help lists the options)",
                    kWrongUse);
  } catch (const Error& error) {
    return complain(error.what(), kWrongUse);
  }
  return run_guarded(action);
}

int main(int argc, char** argv) {
  // A reader of our output that goes away must not end a training run; writing reports the error instead.
  std::signal(SIGPIPE, SIG_IGN);
  const int code = run(std::span<char* const>(argv, static_cast<std::size_t>(argc)).subspan(argc > 0 ? 1 : 0));
  errno = 0;
  if (std::fflush(stdout) != 0 && errno != EPIPE && code == 0) {
    return complain(std::string("cannot write the output: ") + std::strerror(errno), kFailed);
  }
  return code;
}

}  // namespace

}  // namespace trinix::cli

int main(int argc, char** argv) { return trinix::cli::main(argc, argv); }
