#include <algorithm>
#include <cmath>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/ema.h>
#include <trinix/optim/flat.h>

namespace trinix::optim {

using trinix::detail::fail;

Ema::Ema(std::vector<NamedTensor> parameters, double decay) : parameters_(std::move(parameters)), decay_(decay) {
  if (!(decay > 0 && decay < 1)) fail<ConfigError>("Ema", "decay is {}, but must lie between 0 and 1", decay);
  if (parameters_.empty()) fail<ConfigError>("Ema", "there are no parameters to average");
  StateDict names;  // refuses a name that is taken, and undefined tensors
  for (const auto& [name, p] : parameters_) {
    names.insert(name, p);
    if (!is_floating(p.dtype())) fail<DtypeError>("Ema", "the parameter '{}' is {}", name, p.dtype());
    sums_.push_back(zeros(p.shape(), {compute_type(p.dtype()), p.device()}));
  }
}

void Ema::prepare() {
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const Tensor& p = parameters_[i].tensor;
    if (p.shape() != sums_[i].shape()) {
      fail<ShapeError>("Ema", "the parameter '{}' has got the shape {}, but its average has {}", parameters_[i].name,
                       p.shape(), sums_[i].shape());
    }
    if (!p.is_contiguous()) {
      fail<AutogradError>("Ema", "the parameter '{}' of strides {} is not row-major", parameters_[i].name, p.strides());
    }
    sums_[i] = sums_[i].to(compute_type(p.dtype())).to(p.device());
  }
}

void Ema::update() {
  const NoGrad no_grad;
  prepare();
  std::vector<bool> done(sums_.size());
  for (std::size_t first = 0; first < sums_.size(); ++first) {
    if (done[first]) continue;
    const Device device = sums_[first].device();
    std::vector<MovingAverageItem> items;
    for (std::size_t i = first; i < sums_.size(); ++i) {
      if (sums_[i].device() != device) continue;
      done[i] = true;
      items.push_back({flat(parameters_[i].tensor), flat(sums_[i])});
      sums_[i].storage()->mark_written("Ema");
    }
    run<MovingAverage>({.items = items, .weight = 1 - decay_}, device);
  }
  if (Capture* const capture = Capture::current()) {
    // A captured step is made by its replays.
    std::vector<const void*> places;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      places.push_back(parameters_[i].tensor.raw_data());
      places.push_back(sums_[i].raw_data());
      capture->keep(sums_[i].storage());
    }
    capture->require([this, places = std::move(places)] {
      for (std::size_t i = 0; i < sums_.size(); ++i) {
        if (parameters_[i].tensor.raw_data() != places[2 * i] || sums_[i].raw_data() != places[2 * i + 1]) return false;
      }
      return true;
    });
    capture->on_replay([this](const Stream&) { ++updates_; });
  } else {
    ++updates_;
  }
}

Tensor Ema::average_of(std::size_t i) const {
  return sums_[i] * (1 / (1 - std::pow(decay_, static_cast<double>(updates_))));
}

StateDict Ema::averages() const {
  if (updates_ == 0) fail<ConfigError>("Ema", "there is no average before the first update");
  const NoGrad no_grad;
  StateDict state;
  for (std::size_t i = 0; i < sums_.size(); ++i) state.insert(parameters_[i].name, average_of(i));
  return state;
}

void Ema::copy_to_parameters() const {
  if (updates_ == 0) fail<ConfigError>("Ema", "there is no average before the first update");
  const NoGrad no_grad;
  for (std::size_t i = 0; i < sums_.size(); ++i) parameters_[i].tensor.copy_(average_of(i));
}

Ema::Scope::Scope(const Ema& ema) : ema_(ema) {
  if (ema.updates_ == 0) return;
  const NoGrad no_grad;
  for (const auto& [name, p] : ema.parameters_) before_.push_back(p.detach().clone());
  ema.copy_to_parameters();
}

Ema::Scope::~Scope() {
  const NoGrad no_grad;
  for (std::size_t i = 0; i < before_.size(); ++i) ema_.parameters_[i].tensor.copy_(before_[i]);
}

StateDict Ema::state_dict() const {
  StateDict state{{"updates", full({}, updates_, {DType::i64})}};
  for (std::size_t i = 0; i < sums_.size(); ++i) state.insert("sum." + parameters_[i].name, sums_[i]);
  return state;
}

void Ema::load_state_dict(const StateDict& state) {
  const auto updates = state.at("updates").item<std::int64_t>();
  if (updates < 0) fail<ConfigError>("Ema", "the state counts {} updates", updates);
  if (state.size() != sums_.size() + 1) {
    fail<ConfigError>("Ema", "the state holds {} averages, but there are {} parameters", state.size() - 1,
                      sums_.size());
  }
  std::vector<Tensor> sums;
  const NoGrad no_grad;
  for (const auto& [name, p] : parameters_) {
    const Tensor& sum = state.at("sum." + name);
    if (sum.shape() != p.shape() || !is_floating(sum.dtype())) {
      fail<ConfigError>("Ema", "the average of '{}' is {} {} in the state, but the parameter has the shape {}", name,
                        sum.shape(), sum.dtype(), p.shape());
    }
    sums.push_back(sum.detach().contiguous().to(compute_type(p.dtype())).to(p.device()).clone());
  }
  updates_ = updates;
  sums_ = std::move(sums);
}

}  // namespace trinix::optim
