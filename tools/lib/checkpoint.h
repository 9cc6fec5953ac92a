#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/core/generator.h>
#include <trinix/core/state_dict.h>
#include <trinix/optim/schedule.h>
#include <trinix/tools/lib/config.h>
#include <trinix/tools/lib/tokenizer.h>

/// @file
/// Checkpoints of a run: `RUN/checkpoints/step-00000250/` with model.safetensors, optimizer.safetensors and
/// trainer.json (config, step, schedule, generator state, data position, tokenizer, and size and checksum of the other
/// two); `RUN/checkpoints/best/` is the one with the lowest validation loss. A folder appears whole or not at all.

namespace trinix::tools {

/// What a run is apart from its tensors.
struct TrainerState {
  TrainConfig config;
  std::int64_t step = 0;            ///< optimizer steps done
  std::uint64_t data_position = 0;  ///< rows drawn from the training data so far
  RandomState generator;            ///< of dropout
  optim::ScheduleState schedule;
  double best_validation_loss = std::numeric_limits<double>::infinity();
  double elapsed_s = 0;  ///< since the run began, earlier processes included
  std::int64_t vocab_size = 0;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null for a `.bin` without one
};

/// A checkpoint as read back.
struct Checkpoint {
  std::filesystem::path folder;
  TrainerState state;
  StateDict model;
  StateDict optimizer;  ///< empty unless asked for
};

/// Writes `RUN/checkpoints/NAME`, durably, replacing one of that name. @throws IoError, and then nothing was harmed
void save_checkpoint(const std::filesystem::path& run, const std::string& name, const TrainerState& state,
                     const StateDict& model, const StateDict& optimizer);

/// Gives the checkpoint `from` a second name, replacing one of that name. The files are shared where the file system
/// can, else copied; deleting either leaves the other whole. @throws IoError
void link_checkpoint(const std::filesystem::path& run, const std::string& from, const std::string& name);

/// Name of the checkpoint with the lowest validation loss.
inline constexpr const char* kBestCheckpoint = "best";

/// "step-00000250"
[[nodiscard]] std::string checkpoint_name(std::int64_t step);

/// Deletes all but the newest `keep` of the step checkpoints; "best" stays.
void prune_checkpoints(const std::filesystem::path& run, std::size_t keep);

/// Names of the step checkpoints, newest first.
[[nodiscard]] std::vector<std::string> list_checkpoints(const std::filesystem::path& run);

/// Reads and verifies one. @throws IoError, FormatError naming the file that is damaged
[[nodiscard]] Checkpoint load_checkpoint(const std::filesystem::path& folder, bool with_optimizer);

/// The newest step checkpoint that verifies; `skipped` is told of each newer one that does not, and why.
/// @throws IoError when the run has none, FormatError when none verifies
[[nodiscard]] Checkpoint load_newest_checkpoint(const std::filesystem::path& run, bool with_optimizer,
                                                const std::function<void(std::string_view)>& skipped = {});

}  // namespace trinix::tools
