#include "cli/commands.h"
#include "cli/train_options.h"

#include <cstdio>
#include <memory>

#include <trinix/tools/lib/trainer.h>

namespace trinix::cli {

namespace {

int run_train(const tools::TrainConfig& config) {
  const tools::TrainResult result = tools::train(config, {.handle_signals = true});
  if (result.exit_code != 0) {
    std::printf("stopped after step %lld; go on with: trinix train --resume --out %s\n",
                static_cast<long long>(result.steps), config.out.c_str());
    return result.exit_code;
  }
  if (!result.sample.empty()) std::printf("\n%s\n\n", result.sample.c_str());
  std::printf("best validation loss %.4f; curves in %s/loss.svg; more text with: trinix sample --run %s\n",
              result.best_validation_loss, config.out.c_str(), config.out.c_str());
  return 0;
}

}  // namespace

void add_train(CLI::App& program, Run& run) {
  CLI::App* command = program.add_subcommand("train", "Train a transformer on a text");
  auto options = std::make_shared<TrainOptions>(*command);
  command->callback([options, &run] { run = [config = options->config()] { return run_train(config); }; });
}

}  // namespace trinix::cli
