#include "cli/commands.h"

#include <cstdio>
#include <set>
#include <string>

#include <trinix/core/backend.h>
#include <trinix/core/kernel.h>
#include <trinix/core/threads.h>
#include <trinix/version.h>

namespace trinix::cli {

namespace {

const char* compiler_text() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#else
  return "unknown compiler";
#endif
}

int print_info() {
  initialize();
  std::printf("%s\n", version_text().c_str());
  std::printf("compiler   %s\n", compiler_text());
  std::printf("build      %s\n", TRINIX_BUILD_TEXT);
  std::printf("devices    cpu (%d threads)", num_threads());
  for (int i = 0; is_available({DeviceType::cuda, i}); ++i) std::printf(", cuda:%d", i);
  const auto kernels = list_kernels();
  std::set<std::string> ops;
  for (const auto& kernel : kernels) ops.insert(kernel.op);
  std::printf("\nkernels    %zu for %zu ops; `trinix kernels` lists them\n", kernels.size(), ops.size());
  return 0;
}

}  // namespace

std::string version_text() { return "trinix " TRINIX_VERSION; }

void add_info(CLI::App& program, Run& run) {
  CLI::App* command = program.add_subcommand("info", "Show version, build options, devices and kernels");
  command->callback([&run] { run = [] { return print_info(); }; });
}

}  // namespace trinix::cli
