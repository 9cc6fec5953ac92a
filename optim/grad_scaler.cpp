#include <cmath>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/grad_scale.h>
#include <trinix/optim/grad_scaler.h>

namespace trinix::optim {

using trinix::detail::fail;

void GradScalerOptions::validate() const {
  if (!(init_scale >= 0x1p-126 && init_scale <= 0x1p126)) {
    fail<ConfigError>("GradScaler", "init_scale is {}, but must lie between 2^-126 and 2^126", init_scale);
  }
  if (!(growth_factor > 1) || std::isinf(growth_factor)) {
    fail<ConfigError>("GradScaler", "growth_factor is {}, but must be above 1", growth_factor);
  }
  if (!(backoff_factor > 0 && backoff_factor < 1)) {
    fail<ConfigError>("GradScaler", "backoff_factor is {}, but must lie in (0, 1)", backoff_factor);
  }
  if (growth_interval < 1 || most_skipped < 1) {
    fail<ConfigError>("GradScaler", "growth_interval {} and most_skipped {} must be at least 1", growth_interval,
                      most_skipped);
  }
}

GradScaler::GradScaler(Device device, const GradScalerOptions& options) : options_(options) {
  options.validate();
  const auto scale = static_cast<float>(options.init_scale);
  scale_ = from_vector<float>({scale, 1 / scale}).to(device);
  counts_ = zeros({2}, {DType::i64, device});
}

Tensor GradScaler::scale(const Tensor& loss) const { return loss * current(); }

void GradScaler::update(const Tensor& norm) const {
  if (norm.numel() != 1) fail<ShapeError>("GradScaler", "the norm has shape {}, not one number", norm.shape());
  if (norm.dtype() != DType::f64) {
    fail<DtypeError>("GradScaler", "the norm is {}, but must be f64, as grad_norm_tensor() makes it", norm.dtype());
  }
  if (norm.device() != scale_.device()) {
    fail<DeviceError>("GradScaler", "the norm is on {}, the scale on {}", norm.device(), scale_.device());
  }
  run<GradScale>({.norm = norm.raw(),
                  .scale = scale_.raw(),
                  .counts = counts_.raw(),
                  .rule = {.growth = options_.growth_factor,
                           .backoff = options_.backoff_factor,
                           .interval = options_.growth_interval}},
                 scale_.device());
  scale_.storage()->mark_written("GradScaler");
  counts_.storage()->mark_written("GradScaler");
}

void GradScaler::check() const { check(skipped_in_row().item<std::int64_t>(), current().item<double>()); }

void GradScaler::check(std::int64_t skipped_in_row, double scale) const {
  if (skipped_in_row < options_.most_skipped) return;
  fail<AutogradError>("GradScaler",
                      "{} steps in a row were skipped because their gradients were not finite, and a loss scale of {} "
                      "does not help; lower the learning rate, or compute in bf16 or f32",
                      skipped_in_row, scale);
}

StateDict GradScaler::state_dict() const {
  return {{"scale", current()}, {"good_steps", counts_.select(0, 0)}, {"skipped_in_row", skipped_in_row()}};
}

void GradScaler::load_state_dict(const StateDict& state) const {
  const double scale = state.at("scale").item<double>();
  const auto good = state.at("good_steps").item<std::int64_t>();
  const auto skipped = state.at("skipped_in_row").item<std::int64_t>();
  if (!(scale >= 0x1p-126 && scale <= 0x1p126) || good < 0 || skipped < 0) {
    fail<ConfigError>("GradScaler", "the state holds a scale of {} after {} good and {} skipped steps", scale, good,
                      skipped);
  }
  const NoGrad no_grad;
  const auto narrow = static_cast<float>(scale);
  scale_.copy_(from_vector<float>({narrow, 1 / narrow}));
  counts_.copy_(from_vector<std::int64_t>({good, skipped}));
}

}  // namespace trinix::optim
