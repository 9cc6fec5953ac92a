#include "cli/commands.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include <trinix/core/backend.h>
#include <trinix/core/kernel.h>

namespace trinix::cli {

namespace {

int print_kernels(const std::string& op) {
  initialize();
  auto kernels = list_kernels();
  std::stable_sort(kernels.begin(), kernels.end(), [](const auto& a, const auto& b) { return a.op < b.op; });
  if (!op.empty()) std::erase_if(kernels, [&](const auto& kernel) { return kernel.op != op; });
  if (kernels.empty()) {
    std::fprintf(stderr, "trinix: [kernels] no kernel is registered%s%s\n", op.empty() ? "" : " for the op ",
                 op.c_str());
    return 1;
  }
  std::size_t op_width = 2;
  std::size_t name_width = 6;
  for (const auto& kernel : kernels) {
    op_width = std::max(op_width, kernel.op.size());
    name_width = std::max(name_width, kernel.name.size());
  }
  const auto row = [&](const std::string& a, const std::string& b, const char* kind, const char* device,
                       const char* priority, const char* backward) {
    std::printf("%-*s  %-*s  %-9s  %-6s  %8s  %s\n", static_cast<int>(op_width), a.c_str(),
                static_cast<int>(name_width), b.c_str(), kind, device, priority, backward);
  };
  row("op", "kernel", "kind", "device", "priority", "backward");
  for (const auto& kernel : kernels) {
    row(kernel.op, kernel.name, std::string(name(kernel.kind)).c_str(),
        kernel.device == DeviceType::cpu ? "cpu" : "cuda", std::to_string(kernel.priority).c_str(),
        kernel.has_backward ? "yes" : "no");
  }
  return 0;
}

}  // namespace

void add_kernels(CLI::App& program, Run& run) {
  CLI::App* command = program.add_subcommand("kernels", "List the kernels by op");
  auto op = std::make_shared<std::string>();
  command->add_option("op", *op, "only the kernels of this op");
  command->callback([op, &run] { run = [op] { return print_kernels(*op); }; });
}

}  // namespace trinix::cli
