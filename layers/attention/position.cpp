#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/position.h>

namespace trinix::nn {

using detail::fail;

namespace {

class RotaryPosition : public PositionMethod {
 public:
  explicit RotaryPosition(std::shared_ptr<RoPE> rope) : rope_(register_module("rope", std::move(rope))) {}

  [[nodiscard]] std::pair<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const TokenPlaces& q_places,
                                                  const TokenPlaces& k_places) const override {
    return {rope_->forward(q, positions(q_places)), rope_->forward(k, positions(k_places))};
  }
  bool apply_packed_(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                     const TokenPlaces& places) const override {
    rope_->apply_packed_(qkv, heads, kv_heads, positions(places));
    return true;
  }

 private:
  static RoPEPositions positions(const TokenPlaces& places) { return {.first = places.first, .ids = places.ids}; }

  std::shared_ptr<RoPE> rope_;
};

class LinearBias : public PositionMethod {
 public:
  explicit LinearBias(std::shared_ptr<ALiBi> alibi) : alibi_(register_module("alibi", std::move(alibi))) {}

  [[nodiscard]] Tensor slopes(const TokenPlaces& places, Device device) const override {
    if (places.ids.defined()) {
      fail<ConfigError>("attention",
                        "ALiBi measures distances in the sequence itself and takes no position ids (got {}); a method "
                        "of your own may give a bias for them",
                        places.ids.shape());
    }
    return alibi_->slopes(device);
  }

 private:
  std::shared_ptr<ALiBi> alibi_;
};

}  // namespace

std::shared_ptr<PositionMethod> make_position(const PositionChoice& choice, const PositionSizes& sizes) {
  if (const auto* own = std::get_if<std::shared_ptr<PositionMethod>>(&choice)) return *own;
  if (const auto* rope = std::get_if<std::shared_ptr<RoPE>>(&choice)) return std::make_shared<RotaryPosition>(*rope);
  if (const auto* alibi = std::get_if<std::shared_ptr<ALiBi>>(&choice)) return std::make_shared<LinearBias>(*alibi);
  switch (std::get<Position>(choice)) {
    case Position::rope:
      return std::make_shared<RotaryPosition>(std::make_shared<RoPE>(
          RoPEOptions{.dim = sizes.dim, .max_positions = sizes.max_positions, .base = sizes.rope_base}));
    case Position::alibi:
      return std::make_shared<LinearBias>(std::make_shared<ALiBi>(sizes.heads));
    case Position::none:
      break;
  }
  return nullptr;
}

}  // namespace trinix::nn
