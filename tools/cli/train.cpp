#include "cli/commands.h"
#include "cli/train_options.h"

#include <cstdio>
#include <memory>

namespace trinix::cli {

namespace {

int run_train(const tools::TrainConfig& config) {
  std::fprintf(stderr, "trinix: [train] the trainer is not in this version; preset %s was read and is valid\n",
               config.preset.c_str());
  return 1;
}

}  // namespace

void add_train(CLI::App& program, Run& run) {
  CLI::App* command = program.add_subcommand("train", "Train a transformer on a text");
  auto options = std::make_shared<TrainOptions>(*command);
  command->callback([options, &run] { run = [config = options->config()] { return run_train(config); }; });
}

}  // namespace trinix::cli
