#include "cli/commands.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>
#include <string>

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

/// The parser only says that a command is required, whatever stands there instead.
bool is_unknown_command(const CLI::App& program, const char* word) {
  if (word[0] == '-') return false;
  const auto commands = program.get_subcommands([](const CLI::App*) { return true; });
  return std::none_of(commands.begin(), commands.end(), [&](const auto* c) { return c->get_name() == word; });
}

/// Parses the command line. @returns an exit code when there is nothing (more) to do, else -1
int parse(CLI::App& program, int argc, char** argv) {
  try {
    program.parse(argc, argv);
    return -1;
  } catch (const CLI::CallForHelp& help) {
    return program.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return program.exit(version);
  } catch (const CLI::ParseError& error) {
    std::string help = "trinix";
    for (const CLI::App* command : program.get_subcommands()) help += " " + command->get_name();
    return complain(std::string(error.what()) + " (" + help + " --help lists the options)", kWrongUse);
  } catch (const Error& error) {
    return complain(error.what(), kWrongUse);
  }
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

int main(int argc, char** argv) {
  // A reader of our output that goes away must not end a training run; writing reports the error instead.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App program("Train and run transformers", "trinix");
  program.set_version_flag("--version", version_text());
  program.require_subcommand(1);
  program.get_formatter()->column_width(37);
  Run run;
  add_train(program, run);
  add_sample(program, run);
  add_info(program, run);
  add_kernels(program, run);
  if (argc > 1 && is_unknown_command(program, argv[1])) {
    return complain(std::string("there is no command '") + argv[1] + "' (trinix --help lists them)", kWrongUse);
  }
  int code = parse(program, argc, argv);
  if (code < 0) code = run_guarded(run);
  errno = 0;
  if ((std::fflush(stdout) != 0 || !std::cout.flush()) && errno != EPIPE && code == 0) {
    return complain(std::string("cannot write the output: ") + std::strerror(errno), kFailed);
  }
  return code;
}

}  // namespace

}  // namespace trinix::cli

int main(int argc, char** argv) { return trinix::cli::main(argc, argv); }
