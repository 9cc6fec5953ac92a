#include <algorithm>
#include <array>

#include <trinix/optim/adam.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/decay.h>
#include <trinix/optim/lion.h>
#include <trinix/optim/muon.h>
#include <trinix/optim/one_cycle.h>
#include <trinix/optim/plateau.h>
#include <trinix/optim/sgd.h>
#include <trinix/tools/lib/optimization.h>

namespace trinix::tools {

namespace {

template <class Optimizer, class Options>
std::unique_ptr<optim::Optimizer> made(const nn::Module& model, const Options& options) {
  return std::make_unique<Optimizer>(optim::decay_groups(model, options));
}

}  // namespace

std::unique_ptr<optim::Optimizer> make_optimizer(const TrainConfig& c, const nn::Module& model) {
  const std::array<double, 2> betas = {c.beta1, c.beta2};
  if (c.optimizer == "adam") {
    return made<optim::Adam>(
        model, optim::AdamOptions{.lr = c.lr, .betas = betas, .eps = c.eps, .weight_decay = c.weight_decay});
  }
  if (c.optimizer == "lion") {
    return made<optim::Lion>(model, optim::LionOptions{.lr = c.lr, .betas = betas, .weight_decay = c.weight_decay});
  }
  if (c.optimizer == "sgd") {
    return made<optim::SGD>(
        model,
        optim::SGDOptions{.lr = c.lr, .momentum = c.momentum, .weight_decay = c.weight_decay, .nesterov = c.nesterov});
  }
  const optim::AdamWOptions adamw{.lr = c.lr, .betas = betas, .eps = c.eps, .weight_decay = c.weight_decay};
  if (c.optimizer != "muon") return made<optim::AdamW>(model, adamw);
  // Scaled to AdamW's steps, so that one weight decay suits both.
  const optim::MuonOptions muon{.lr = c.muon_lr,
                                .weight_decay = c.weight_decay,
                                .momentum = c.momentum,
                                .nesterov = c.nesterov,
                                .scale = optim::MuonScale::match_rms_adamw,
                                .fused_qkv = optim::FusedQkv::blocks};
  return std::make_unique<optim::OptimizerList>(optim::muon_with_adamw(model, muon, adamw));
}

double lr_ratio(const TrainConfig& c) { return c.optimizer == "muon" ? c.muon_lr / c.lr : 1; }

std::unique_ptr<optim::Schedule> make_schedule(const TrainConfig& c) {
  // A run shorter than its warm-up never gets beyond it.
  const std::int64_t steps = std::max(c.iters, c.warmup + 1);
  const optim::DecayOptions decay{.lr = c.lr, .min_lr = c.min_lr, .warmup = c.warmup, .steps = steps};
  if (c.schedule == "constant") {
    return std::make_unique<optim::ConstantSchedule>(optim::ConstantOptions{.lr = c.lr, .warmup = c.warmup});
  }
  if (c.schedule == "linear") return std::make_unique<optim::LinearSchedule>(decay);
  if (c.schedule == "polynomial") return std::make_unique<optim::PolynomialSchedule>(decay, c.power);
  if (c.schedule == "wsd") {
    const std::int64_t way_down = c.decay_steps > 0 ? c.decay_steps : std::min(c.iters / 5, steps - c.warmup);
    return std::make_unique<optim::WarmupStableDecay>(
        optim::WarmupStableDecayOptions{.lr = c.lr,
                                        .min_lr = c.min_lr,
                                        .warmup = c.warmup,
                                        .steps = steps,
                                        .decay = way_down,
                                        .shape = c.decay_shape == "sqrt"     ? optim::DecayShape::sqrt
                                                 : c.decay_shape == "linear" ? optim::DecayShape::linear
                                                                             : optim::DecayShape::cosine});
  }
  if (c.schedule == "step") {
    const std::int64_t every = c.step_every > 0 ? c.step_every : std::max<std::int64_t>(c.iters / 3, 1);
    return std::make_unique<optim::StepSchedule>(
        optim::StepDecayOptions{.lr = c.lr, .min_lr = c.min_lr, .warmup = c.warmup, .every = every, .gamma = c.gamma});
  }
  if (c.schedule == "one-cycle") {
    return std::make_unique<optim::OneCycleSchedule>(
        optim::OneCycleOptions{.lr = c.lr,
                               .start_lr = c.start_lr > 0 ? c.start_lr : c.lr / 25,
                               .min_lr = c.min_lr,
                               .steps = c.iters,
                               .rise = c.rise});
  }
  if (c.schedule == "plateau") {
    return std::make_unique<optim::PlateauSchedule>(optim::PlateauOptions{.lr = c.lr,
                                                                          .warmup = c.warmup,
                                                                          .factor = c.plateau_factor,
                                                                          .patience = c.plateau_patience,
                                                                          .threshold = c.plateau_threshold,
                                                                          .min_lr = c.min_lr});
  }
  return std::make_unique<optim::CosineWithWarmup>(decay);
}

namespace {

void insert_part(StateDict& all, std::string_view prefix, const StateDict& part) {
  for (const auto& [name, tensor] : part) all.insert(std::string(prefix) + name, tensor);
}

}  // namespace

StateDict part_of_state(const StateDict& state, std::string_view prefix) {
  StateDict part;
  for (const auto& [name, tensor] : state) {
    if (name.starts_with(prefix)) part.insert(name.substr(prefix.size()), tensor);
  }
  return part;
}

StateDict saved_state(const Remembering& parts) {
  StateDict all = parts.optimizer.state_dict();
  if (parts.scaler != nullptr) insert_part(all, kScalerState, parts.scaler->state_dict());
  if (parts.ema != nullptr) insert_part(all, kEmaState, parts.ema->state_dict());
  return all;
}

void load_state(const Remembering& parts, const StateDict& state) {
  StateDict optimizer;
  for (const auto& [name, tensor] : state) {
    if (!name.starts_with(kScalerState) && !name.starts_with(kEmaState)) optimizer.insert(name, tensor);
  }
  const StateDict scaler = part_of_state(state, kScalerState), ema = part_of_state(state, kEmaState);
  if (parts.scaler != nullptr && !scaler.empty()) parts.scaler->load_state_dict(scaler);
  if (parts.ema != nullptr && !ema.empty()) parts.ema->load_state_dict(ema);
  parts.optimizer.load_state_dict(optimizer);
}

}  // namespace trinix::tools
