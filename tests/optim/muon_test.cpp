// Muon beyond its formula: batches, blocks of fused projections, scales, and its partner AdamW.
#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <gmock/gmock.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/muon.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;

class MuonOnDevice : public trinix::testing::OnDevice {
 protected:
  static Tensor noise(const Shape& shape, std::uint64_t seed, DType dtype = DType::f64) {
    Generator generator(seed);
    return trinix::randn(shape, {}, &generator).to(dtype).to(device());
  }
  static Tensor leaf(const Tensor& values) {
    Tensor p = values.detach().clone();
    return p.requires_grad_();
  }
  static double difference(const Tensor& a, const Tensor& b) {
    return max(abs(a.detach().to(DType::f64) - b.detach().to(DType::f64))).item<double>();
  }
};

TEST_P(MuonOnDevice, MatricesOfManyShapesAreEachAlone) {
  const std::vector<Shape> shapes = {{8, 12}, {12, 8}, {8, 12}, {9, 9}, {1, 7}, {8, 12}, {7, 1}, {9, 9}};
  std::vector<Tensor> together, alone;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    together.push_back(leaf(noise(shapes[i], i)));
    alone.push_back(leaf(noise(shapes[i], i)));
  }
  Muon all(together, {.lr = 0.1});
  std::vector<std::unique_ptr<Muon>> singles;
  for (const Tensor& p : alone)
    singles.push_back(std::make_unique<Muon>(std::vector<Tensor>{p}, MuonOptions{.lr = 0.1}));
  for (int step = 0; step < 3; ++step) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      if (i == 3 && step == 0) continue;  // starts a step late
      const Tensor g = noise(shapes[i], 100 + 10 * static_cast<std::uint64_t>(step) + i);
      together[i].set_grad(g);
      alone[i].set_grad(g);
      singles[i]->step();
    }
    all.step();
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) EXPECT_LT(difference(together[i], alone[i]), 1e-12) << i;
}

TEST_P(MuonOnDevice, BlocksOfAFusedProjectionAreMatricesOfTheirOwn) {
  for (const std::vector<std::int64_t>& rows : {std::vector<std::int64_t>{}, {8, 2, 2}}) {
    const Tensor fused = leaf(noise({12, 6}, 1));
    const std::vector<std::int64_t> sizes = rows.empty() ? std::vector<std::int64_t>{4, 4, 4} : rows;
    Muon whole({{"h.0.attn.c_attn.weight", fused}}, {.lr = 0.1, .fused_qkv = FusedQkv::blocks, .qkv_rows = rows});
    std::vector<Tensor> parts;
    std::int64_t first = 0;
    for (const std::int64_t n : sizes) {
      parts.push_back(leaf(fused.detach().narrow(0, first, n)));
      first += n;
    }
    Muon separate(parts, {.lr = 0.1});
    for (int step = 0; step < 2; ++step) {
      const Tensor g = noise({12, 6}, 10 + static_cast<std::uint64_t>(step));
      fused.set_grad(g);
      first = 0;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        parts[i].set_grad(g.narrow(0, first, sizes[i]));
        first += sizes[i];
      }
      whole.step();
      separate.step();
    }
    first = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      EXPECT_LT(difference(fused.detach().narrow(0, first, sizes[i]), parts[i]), 1e-12);
      first += sizes[i];
    }
  }
}

TEST_P(MuonOnDevice, ScalesAreThoseOfTheirSources) {
  const auto moved = [](MuonScale scale, const Shape& shape) {
    const Tensor p = leaf(zeros(shape, {DType::f64}));
    p.set_grad(noise(shape, 5));
    Muon muon({{"p", p}}, {.lr = 1, .scale = scale});
    muon.step();
    return sqrt(sum(p.detach() * p.detach())).item<double>();
  };
  for (const Shape& shape : {Shape{16, 4}, Shape{4, 16}}) {
    const double tall = shape[0] > shape[1] ? 1 : 0;
    const double base = moved(MuonScale::original, shape) / (tall != 0 ? 2 : 1);
    EXPECT_NEAR(moved(MuonScale::match_rms_adamw, shape), base * 0.8, 1e-12);
    EXPECT_NEAR(moved(MuonScale::spectral, shape), base * (tall != 0 ? 2 : 0.5), 1e-12);
  }
}

TEST_P(MuonOnDevice, AGradientOfZerosMovesNothing) {
  const Tensor p = leaf(noise({6, 9}, 1, DType::f32)), q = leaf(noise({6, 9}, 2, DType::f32));
  const auto before = p.to_doubles(), other = q.to_doubles();
  Muon muon(std::vector<Tensor>{p, q}, {.weight_decay = 0});
  p.set_grad(zeros({6, 9}));
  q.set_grad(noise({6, 9}, 3, DType::f32));
  muon.step();
  EXPECT_EQ(p.to_doubles(), before);
  EXPECT_NE(q.to_doubles(), other);
}

TEST_P(MuonOnDevice, SixteenBitParametersKeepAMaster) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor p = leaf(noise({24, 16}, 1, dtype)), q = leaf(p.detach().to(DType::f32));
    Muon narrow({{"p", p}}, {.lr = 1e-3}), wide({{"q", q}}, {.lr = 1e-3});
    for (int step = 0; step < 5; ++step) {
      const Tensor g = noise({24, 16}, 10 + static_cast<std::uint64_t>(step), dtype);
      p.set_grad(g);
      q.set_grad(g.to(DType::f32));
      narrow.step();
      wide.step();
    }
    const Tensor master = narrow.state_dict().at("state.p.master");
    EXPECT_EQ(p.to_doubles(), master.to(dtype).to_doubles());
    EXPECT_LT(difference(master, q), device().is_cpu() ? 1e-6 : 1e-3) << name(dtype);
  }
}

TEST_P(MuonOnDevice, WithAdamWForTheRest) {
  nn::Gpt gpt(
      {.vocab_size = 17, .block_size = 8, .layers = 2, .heads = 2, .width = 12, .tensor = {.device = device()}});
  OptimizerList optimizer = muon_with_adamw(gpt, {.lr = 0.02}, {.lr = 0.001, .weight_decay = 0.1});
  ASSERT_EQ(optimizer.size(), 2U);
  EXPECT_EQ(optimizer.named_parameters().size(), gpt.named_parameters().size());
  for (const NamedTensor& p : optimizer[0].named_parameters()) {
    EXPECT_EQ(p.tensor.rank(), 2) << p.name;
    EXPECT_THAT(p.name, HasSubstr(".h."));
  }
  EXPECT_EQ(optimizer[0].named_parameters().size(), 8U);  // four matrices a layer
  optimizer.set_lr(0.01);
  EXPECT_DOUBLE_EQ(optimizer[1].lr(), 0.0005);

  const Tensor ids = trinix::randint(0, 17, {3, 8}).to(device());
  double first = 0, last = 0;
  for (int step = 0; step < 8; ++step) {
    optimizer.zero_grad();
    const Tensor loss = gpt.loss(ids, ids);
    loss.backward();
    EXPECT_TRUE(optimizer.without_grad().empty());
    optimizer.step();
    last = loss.item<float>();
    if (step == 0) first = last;
  }
  EXPECT_LT(last, first);

  const StateDict state = optimizer.state_dict();
  EXPECT_TRUE(state.contains("0.param_groups.0.momentum"));
  EXPECT_TRUE(state.contains("1.param_groups.1.weight_decay"));
  OptimizerList other = muon_with_adamw(gpt, {.lr = 0.5});
  other.load_state_dict(state);
  EXPECT_EQ(other.lr(), 0.01);
  // All or nothing: the second member refuses, and the first one is put back.
  StateDict broken;
  for (const auto& [key, tensor] : state) {
    if (key != "1.param_groups.0.lr")
      broken.insert(key, key == "0.param_groups.0.lr" ? full({}, 7, {DType::f64}) : tensor);
  }
  EXPECT_THAT(message_of<ConfigError>([&] { other.load_state_dict(broken); }), HasSubstr("param_groups.0.lr"));
  EXPECT_EQ(other.lr(), 0.01);
}

TEST_P(MuonOnDevice, NamesTellWhatIsHidden) {
  const Tensor matrix = ones({2, 2}), vector = ones({2});
  for (const char* hidden : {"h.0.attn.c_attn.weight", "layers.1.mlp.up.weight", "head_norm.w", "w"}) {
    EXPECT_TRUE(is_hidden_matrix({hidden, matrix})) << hidden;
    EXPECT_FALSE(is_hidden_matrix({hidden, vector})) << hidden;
  }
  for (const char* other : {"transformer.wte.weight", "wpe.weight", "lm_head.weight", "model.embed_tokens.weight",
                            "tok_embeddings.weight", "output.weight"}) {
    EXPECT_FALSE(is_hidden_matrix({other, matrix})) << other;
  }
  Tensor p = ones({2, 2});
  p.requires_grad_();
  EXPECT_THROW(static_cast<void>(muon_with_adamw({{"wte.weight", p}})), ConfigError);
}

INSTANTIATE_TEST_SUITE_P(Devices, MuonOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
