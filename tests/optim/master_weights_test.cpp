// 16-bit parameters: master copies, clipping by a norm that the host never reads, thousands of tensors.
#include "support/on_device.h"

#include <cmath>
#include <gmock/gmock.h>
#include <limits>

#include <trinix/core/error.h>
#include <trinix/core/ops/update.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;

class MasterWeights : public trinix::testing::OnDevice {
 protected:
  static Tensor noise(std::int64_t count, std::uint64_t seed, double low = -1, double high = 1) {
    Generator generator(seed);
    return (trinix::rand({count}, {}, &generator) * (high - low) + low).to(device());
  }
  static Tensor leaf(const Tensor& values) {
    Tensor p = values.detach().clone();
    return p.requires_grad_();
  }
  template <class E, class F>
  static std::string error_of(F&& f) {
    try {
      f();
    } catch (const E& e) {
      return e.what();
    }
    return "nothing of that type was thrown";
  }
};

TEST_P(MasterWeights, TenStepsAreThoseOfTheSingleRun) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor start = noise(1037, 1).to(dtype).to(DType::f32);
    const Tensor narrow = leaf(start.to(dtype)), wide = leaf(start);
    const AdamWOptions options{.lr = 1e-4, .weight_decay = 0.1};  // steps far below the rounding of most values
    AdamW narrow_adamw({{"p", narrow}}, options), wide_adamw({{"p", wide}}, options);
    for (int step = 0; step < 10; ++step) {
      const Tensor gradient = noise(1037, 10 + static_cast<std::uint64_t>(step)).to(dtype);
      narrow.set_grad(gradient);
      wide.set_grad(gradient.to(DType::f32));
      narrow_adamw.step();
      wide_adamw.step();
    }
    EXPECT_EQ(narrow_adamw.state_dict().at("state.p.master").to_doubles(), wide.to_doubles()) << name(dtype);
    EXPECT_EQ(narrow.to_doubles(), wide.detach().to(dtype).to_doubles()) << name(dtype);
  }
}

TEST_P(MasterWeights, WithoutThemSmallStepsAreLost) {
  const Tensor with = leaf(ones({64}, {DType::bf16})), without = leaf(ones({64}, {DType::bf16}));
  AdamW kept({{"p", with}}, {.lr = 1e-4, .weight_decay = 0});
  AdamW lost({{"p", without}}, {.lr = 1e-4, .weight_decay = 0, .state = {.master_weights = false}});
  for (int step = 0; step < 100; ++step) {
    for (const Tensor& p : {with, without}) p.set_grad(ones({64}, {DType::bf16}));
    kept.step();
    lost.step();
  }
  EXPECT_NEAR(with.to_doubles()[0], 0.99, 0.005);
  EXPECT_EQ(without.to_doubles()[63], 1);
  EXPECT_EQ(lost.state_dict().find("state.p.master"), nullptr);
}

TEST_P(MasterWeights, AWideGradientIsTakenAsItIs) {
  // Straight at the kernel: a leaf's own gradient has the leaf's dtype.
  const std::int64_t n = 70003;
  const Tensor gradient = noise(n, 3), start = noise(n, 4);
  const Tensor p = start.to(DType::bf16), master = start.clone(), m = zeros({n}), v = zeros({n});
  const Tensor wide = start.clone(), wide_m = zeros({n}), wide_v = zeros({n});
  const auto flat = [](const Tensor& t) { return Flat{t.raw_data(), t.numel(), t.dtype()}; };
  const UpdateRule rule{.lr = 0.01, .weight_decay = 0.01, .decoupled = true};
  const std::vector<UpdateItem> items = {
      {.param = flat(p), .grad = flat(gradient), .state = {flat(m), flat(v)}, .master = flat(master)},
      {.param = flat(wide), .grad = flat(gradient), .state = {flat(wide_m), flat(wide_v)}, .master = {}}};
  run<trinix::Update>({.items = items, .rules = {&rule, 1}}, device());
  EXPECT_EQ(master.to_doubles(), wide.to_doubles());
  EXPECT_EQ(p.to_doubles(), wide.to(DType::bf16).to_doubles());
}

TEST_P(MasterWeights, AreSavedAndResumedBitForBit) {
  const auto gradient = [](int step) { return noise(333, 50 + static_cast<std::uint64_t>(step)).to(DType::bf16); };
  const auto train = [&](AdamW& optimizer, const Tensor& p, int from, int to) {
    for (int step = from; step < to; ++step) {
      p.set_grad(gradient(step));
      optimizer.step();
    }
  };
  const AdamWOptions options{.lr = 3e-4};
  const Tensor start = noise(333, 2).to(DType::bf16);
  const Tensor whole = leaf(start), first = leaf(start);
  AdamW uninterrupted({{"p", whole}}, options), before({{"p", first}}, options);
  train(uninterrupted, whole, 0, 10);
  train(before, first, 0, 5);
  const StateDict state = before.state_dict().clone();
  const Tensor weights = first.detach().clone();

  // The weights may be loaded before the optimizer's state or after it.
  for (const bool weights_first : {true, false}) {
    const Tensor p = leaf(start);
    AdamW after({{"p", p}}, options);
    const NoGrad no_grad;
    if (weights_first) p.copy_(weights);
    after.load_state_dict(state);
    if (!weights_first) p.copy_(weights);
    train(after, p, 5, 10);
    EXPECT_EQ(p.to_doubles(), whole.to_doubles());
    EXPECT_EQ(after.state_dict().at("state.p.master").to_doubles(),
              uninterrupted.state_dict().at("state.p.master").to_doubles());
  }
  // A run that goes on in f32 starts from what the 16-bit run really knew.
  const Tensor wide = leaf(start.to(DType::f32));
  AdamW in_single({{"p", wide}}, options);
  in_single.load_state_dict(state);
  EXPECT_EQ(wide.to_doubles(), state.at("state.p.master").to_doubles());
  EXPECT_EQ(in_single.state_dict().find("state.p.master"), nullptr);
}

TEST_P(MasterWeights, FollowAParameterThatOthersWrite) {
  const Tensor p = leaf(noise(100, 1).to(DType::bf16));
  AdamW optimizer({{"p", p}}, {.lr = 1e-5, .weight_decay = 0});
  p.set_grad(ones({100}, {DType::bf16}));
  optimizer.step();
  {
    const NoGrad no_grad;
    p.copy_(full({100}, 7, {DType::bf16}));
  }
  optimizer.step();
  EXPECT_NEAR(optimizer.state_dict().at("state.p.master").to_doubles()[0], 7, 1e-4);
}

TEST_P(MasterWeights, ClippingOnTheDeviceIsThatOfTheHost) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor start = noise(5001, 7).to(dtype), gradient = noise(5001, 8).to(dtype);
    const Tensor a = leaf(start), b = leaf(start);
    a.set_grad(gradient);
    b.set_grad(gradient);
    AdamW on_host(std::vector<Tensor>{a}, {.lr = 0.1}), on_device(std::vector<Tensor>{b}, {.lr = 0.1});
    const double norm = grad_norm({a});
    ASSERT_GT(norm, 1);
    on_host.step({.grad_scale = 0.5 * clip_scale(0.5 * norm, 1.0)});
    on_device.step({.grad_scale = 0.5, .norm = grad_norm_tensor({b}), .max_norm = 1.0});
    EXPECT_EQ(a.to_doubles(), b.to_doubles()) << name(dtype);
    EXPECT_EQ(on_device.skipped().item<std::int64_t>(), 0);
  }
}

TEST_P(MasterWeights, ANormThatIsNotFiniteStopsTheUpdate) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const Tensor p = leaf(noise(300, 1)), q = leaf(noise(40, 2).to(DType::bf16));
    AdamW optimizer({{"p", p}, {"q", q}}, {.lr = 0.1});
    p.set_grad(noise(300, 3));
    q.set_grad(noise(40, 4).to(DType::bf16));
    optimizer.step({.norm = grad_norm_tensor({p, q})});
    const StateDict before = optimizer.state_dict().clone();
    const auto p_before = p.to_doubles(), q_before = q.to_doubles();
    p.set_grad(full({300}, bad));
    optimizer.step({.norm = grad_norm_tensor({p, q}), .max_norm = 1});
    EXPECT_EQ(p.to_doubles(), p_before);
    EXPECT_EQ(q.to_doubles(), q_before);
    for (const char* key : {"state.p.exp_avg", "state.q.exp_avg_sq", "state.q.master"}) {
      EXPECT_EQ(optimizer.state_dict().at(key).to_doubles(), before.at(key).to_doubles()) << key;
    }
    EXPECT_EQ(optimizer.skipped().item<std::int64_t>(), 1);
  }
}

TEST_P(MasterWeights, ThreeThousandTensorsOfAllKindsInOneCall) {
  struct Pair {
    Tensor here, alone;
  };
  std::vector<Pair> pairs;
  std::vector<Tensor> together;
  const DType dtypes[] = {DType::f32, DType::bf16, DType::f64, DType::f16};
  const Tensor values = noise(60000, 1), gradients = noise(60000, 2);
  for (std::int64_t i = 0; i < 3000; ++i) {
    const std::int64_t n = i % 41 + (i % 700 == 3 ? 40000 : 0);
    const DType dtype = dtypes[i % 4];
    const Tensor start = values.narrow(0, i, n).to(dtype), gradient = gradients.narrow(0, i, n).to(dtype);
    Pair pair{leaf(start), leaf(start)};
    pair.here.set_grad(gradient);
    pair.alone.set_grad(gradient);
    together.push_back(pair.here);
    if (i % 100 < 4 || n > 1000) pairs.push_back(pair);
  }
  AdamW all(together, {.lr = 0.01});
  all.step();
  all.step();
  for (const Pair& pair : pairs) {
    AdamW one(std::vector<Tensor>{pair.alone}, {.lr = 0.01});
    one.step();
    one.step();
    ASSERT_EQ(pair.here.to_doubles(), pair.alone.to_doubles());
  }
}

TEST_P(MasterWeights, AParameterAtAnOddAddressIsUpdatedToo) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const Tensor start = noise(5000, 1).to(dtype), gradient = noise(4999, 2).to(dtype);
    Tensor odd = start.detach().clone().narrow(0, 1, 4999).detach();
    odd.requires_grad_();
    const Tensor even = leaf(start.narrow(0, 1, 4999));
    odd.set_grad(gradient);
    even.set_grad(gradient);
    AdamW a(std::vector<Tensor>{odd}), b(std::vector<Tensor>{even});
    a.step();
    b.step();
    EXPECT_EQ(odd.to_doubles(), even.to_doubles()) << name(dtype);
  }
}

TEST_P(MasterWeights, Errors) {
  const Tensor p = leaf(noise(3, 1));
  p.set_grad(ones({3}));
  AdamW optimizer({{"p", p}});
  EXPECT_THAT(error_of<ConfigError>([&] { optimizer.step({.max_norm = 1}); }), HasSubstr("no norm was given"));
  EXPECT_THAT(error_of<ConfigError>([&] { optimizer.step({.norm = grad_norm_tensor({p}), .max_norm = 0}); }),
              HasSubstr("max_norm is 0, but must be positive"));
  EXPECT_THAT(error_of<DtypeError>([&] { optimizer.step({.norm = full({}, 1.0)}); }), HasSubstr("must be f64"));
  EXPECT_THAT(error_of<ShapeError>([&] { optimizer.step({.norm = full({2}, 1.0, {DType::f64})}); }),
              HasSubstr("the norm has shape [2]"));
}

INSTANTIATE_TEST_SUITE_P(Devices, MasterWeights, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
