#pragma once

#include <memory>
#include <string_view>

#include <trinix/core/state_dict.h>
#include <trinix/layers/module.h>
#include <trinix/optim/ema.h>
#include <trinix/optim/grad_scaler.h>
#include <trinix/optim/optimizer.h>
#include <trinix/optim/schedule.h>
#include <trinix/tools/lib/config.h>

/// @file
/// From the options of a run to its optimizer and its learning rates, and what of them a checkpoint holds.

namespace trinix::tools {

/// The optimizer of config.optimizer. Tensors of two or more dims decay, the rest does not. @throws ConfigError
[[nodiscard]] std::unique_ptr<optim::Optimizer> make_optimizer(const TrainConfig& config, const nn::Module& model);

/// What the optimizer's learning rate is in terms of config.lr: a Muon's is that of the hidden matrices.
[[nodiscard]] double lr_ratio(const TrainConfig& config);

/// The schedule of config.schedule over config.iters steps. @throws ConfigError
[[nodiscard]] std::unique_ptr<optim::Schedule> make_schedule(const TrainConfig& config);

/// What remembers earlier steps.
struct Remembering {
  optim::Optimizer& optimizer;
  optim::GradScaler* scaler = nullptr;
  optim::Ema* ema = nullptr;
};

/// The state of all of it under one roof: the optimizer's as it is, the others' behind a prefix.
[[nodiscard]] StateDict saved_state(const Remembering& parts);
/// Takes it back. Scaler and average begin anew when the state holds nothing of them, as after a change of dtype.
/// @throws ConfigError
void load_state(const Remembering& parts, const StateDict& state);

inline constexpr std::string_view kScalerState = "loss_scale.";
inline constexpr std::string_view kEmaState = "ema.";

/// The entries behind a prefix, without it.
[[nodiscard]] StateDict part_of_state(const StateDict& state, std::string_view prefix);

}  // namespace trinix::tools
