#include "cli/commands.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include <trinix/core/backend.h>
#include <trinix/core/error.h>
#include <trinix/core/kernel.h>
#include <trinix/core/safetensors.h>
#include <trinix/core/threads.h>
#include <trinix/tools/lib/checkpoint.h>
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

/// A line for each card, or why there is none.
void print_cards() {
  try {
    const Backend& cuda = backend_of(Device::cuda(0));
    for (int i = 0; i < cuda.device_count(); ++i) std::printf("           cuda:%d  %s\n", i, cuda.describe(i).c_str());
  } catch (const DeviceError& error) {
    std::printf("           no cuda: %s\n", error.what());
  }
}

int print_info() {
  initialize();
  std::printf("%s\n", version_text().c_str());
  std::printf("compiler   %s\n", compiler_text());
  std::printf("build      %s\n", TRINIX_BUILD_TEXT);
  std::printf("devices    cpu     %d threads\n", num_threads());
  print_cards();
  const auto kernels = list_kernels();
  std::set<std::string> ops;
  for (const auto& kernel : kernels) ops.insert(kernel.op);
  std::printf("kernels    %zu for %zu ops; `trinix kernels` lists them\n", kernels.size(), ops.size());
  return 0;
}

void print_tensors(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::uint64_t bytes = 0;
  for (const SafetensorsInfo& tensor : file.tensors()) {
    std::string shape;
    for (const std::int64_t n : tensor.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    std::printf("  %-5s [%s]  %s\n", std::string(tensor.dtype_name).c_str(), shape.c_str(), tensor.name.c_str());
    bytes += tensor.bytes();
  }
  for (const auto& [key, value] : file.metadata()) std::printf("  metadata %s = %s\n", key.c_str(), value.c_str());
  std::printf("%s: %zu tensors, %llu bytes\n", path.c_str(), file.tensors().size(),
              static_cast<unsigned long long>(bytes));
}

/// A safetensors file, a checkpoint, or a run, of which the newest checkpoint is shown.
int print_contents(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    print_tensors(path);
    return 0;
  }
  const bool is_checkpoint = std::filesystem::exists(path / "trainer.json");
  const tools::Checkpoint checkpoint =
      is_checkpoint ? tools::load_checkpoint(path, false) : tools::load_newest_checkpoint(path, false);
  std::printf("%s: step %lld, best validation loss %.4f\n", checkpoint.folder.c_str(),
              static_cast<long long>(checkpoint.state.step), checkpoint.state.best_validation_loss);
  print_tensors(checkpoint.folder / "model.safetensors");
  return 0;
}

}  // namespace

std::string version_text() { return "trinix " TRINIX_VERSION; }

void add_info(CLI::App& program, Run& run) {
  CLI::App* command =
      program.add_subcommand("info", "Show version, build options, devices and kernels, or what a file or run holds");
  auto path = std::make_shared<std::string>();
  command->add_option("path", *path, "a safetensors file, a checkpoint's folder, or a run's folder");
  command->callback([path, &run] { run = [path] { return path->empty() ? print_info() : print_contents(*path); }; });
}

}  // namespace trinix::cli
