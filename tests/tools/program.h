#pragma once

#include "temp_folder.h"

#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <trinix/tools/lib/file_io.h>

namespace trinix::tools::test {

/// What a run of the program left behind.
struct ProgramResult {
  int code = -1;  ///< exit code, or 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// Where the program under test lies: ctest says so, and without it the one of the preset is tried.
inline std::string program_path() {
  const char* path = std::getenv("TRINIX_PROGRAM");
  return path != nullptr ? path : TRINIX_TEST_DATA "/../../build/cpu-release/trinix";
}

/// Starts the program as a user would, its output going to the two files. @returns its process id
inline pid_t start_program(const std::vector<std::string>& args, const std::string& out, const std::string& err) {
  const std::string program = program_path();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const auto& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
  ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

/// Waits for it. @returns its exit code, or 128 + the signal that ended it
inline int wait_for_program(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline ProgramResult run_program(const std::vector<std::string>& args) {
  TempFolder folder;
  ProgramResult result;
  result.code = wait_for_program(start_program(args, (folder / "out").string(), (folder / "err").string()));
  result.out = read_file(folder / "out");
  result.err = read_file(folder / "err");
  return result;
}

}  // namespace trinix::tools::test
