#include <utility>

#include <trinix/tools/lib/checkpoint_saver.h>

namespace trinix::tools {

namespace {

StateDict on_cpu(const StateDict& dict) {
  StateDict copies;
  for (const NamedTensor& entry : dict) copies.insert(entry.name, entry.tensor.detach().to(Device::cpu()));
  return copies;
}

}  // namespace

CheckpointSaver::CheckpointSaver(std::filesystem::path run, const CheckpointSaverOptions& options)
    : run_(std::move(run)), options_(options) {}

CheckpointSaver::~CheckpointSaver() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointSaver::save(const Names& names, const TrainerState& state, const StateDict& model,
                           const StateDict& optimizer) {
  if (!names.step && !names.best) return;
  wait();
  if (!options_.in_background) {
    write(names, state, model, optimizer);
    return;
  }
  thread_ = std::thread([this, names, state, model = on_cpu(model), optimizer = on_cpu(optimizer)] {
    try {
      write(names, state, model, optimizer);
    } catch (...) {
      error_ = std::current_exception();
    }
  });
}

void CheckpointSaver::wait() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void CheckpointSaver::write(const Names& names, const TrainerState& state, const StateDict& model,
                            const StateDict& optimizer) const {
  const std::string step = checkpoint_name(state.step);
  save_checkpoint(run_, names.step ? step : kBestCheckpoint, state, model, optimizer);
  if (names.step && names.best) link_checkpoint(run_, step, kBestCheckpoint);
  prune_checkpoints(run_, options_.keep);
}

}  // namespace trinix::tools
