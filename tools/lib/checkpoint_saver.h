#pragma once

#include <exception>
#include <filesystem>
#include <string>
#include <thread>

#include <trinix/tools/lib/checkpoint.h>

/// @file
/// When and where the checkpoints of a run are written.

namespace trinix::tools {

struct CheckpointSaverOptions {
  std::size_t keep = 2;  ///< step checkpoints; the best one stays besides
  /// Write in a thread while the run goes on, one checkpoint at a time. For a card, whose tensors have to be copied to
  /// the host anyway; on the CPU a second copy of all tensors would be needed.
  bool in_background = false;
};

/// Saves into `RUN/checkpoints`.
class CheckpointSaver {
 public:
  explicit CheckpointSaver(std::filesystem::path run, const CheckpointSaverOptions& options = {});
  /// Waits; what went wrong is lost, so call wait() before.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Under which names: of the step, or "best", or both, which then share their files on disk.
  struct Names {
    bool step = false;
    bool best = false;
  };
  /// Whatever the tensors are at this moment is saved. @throws IoError, of this checkpoint or of the one before
  void save(const Names& names, const TrainerState& state, const StateDict& model, const StateDict& optimizer);

  /// Until all is on disk. @throws IoError
  void wait();

 private:
  void write(const Names& names, const TrainerState& state, const StateDict& model, const StateDict& optimizer) const;

  std::filesystem::path run_;
  CheckpointSaverOptions options_;
  std::thread thread_;
  std::exception_ptr error_;  // of the thread; read after joining it
};

}  // namespace trinix::tools
