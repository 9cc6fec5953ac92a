// Mistakes in data that a card finds while nobody waits for it.
#include "naive.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

#include <trinix/core/capture.h>

namespace trinix::testing {
namespace {

constexpr const char* kLate =
    "; found on the card and raised at the first synchronisation since; what was computed with it is to be discarded";

class LateErrors : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(kCard)) GTEST_SKIP() << "needs a CUDA card, and this machine has none";
  }
  /// The card works as ever after an error.
  void TearDown() override {
    if (!is_available(kCard)) return;
    synchronize(kCard);
    const Tensor weight = from_vector<float>({1, 2, 3, 4, 5, 6}, {3, 2}, {.device = kCard});
    EXPECT_EQ(embedding(indices({2, 0}), weight).to_vector<float>(), (std::vector<float>{5, 6, 1, 2}));
  }

  static Tensor indices(const std::vector<std::int64_t>& values) { return from_vector(values, {.device = kCard}); }
  static std::string late_message() {
    return message_of<IndexError>([] { synchronize(kCard); });
  }

  static constexpr Device kCard{DeviceType::cuda, 0};
};

TEST_F(LateErrors, EmbeddingReadsZerosAndItsBackwardAddsNothing) {
  Tensor weight = ones({4, 8}, {.device = kCard, .requires_grad = true});
  const Tensor y = embedding(indices({3, 4, -1, 3}), weight);
  y.backward(ones({4, 8}, {.device = kCard}));
  EXPECT_EQ(late_message(), std::string("[embedding] index 4 at position 1 is out of range for 4 rows") + kLate);
  std::vector<double> rows(32, 1);
  std::fill(rows.begin() + 8, rows.begin() + 24, 0);
  EXPECT_EQ(y.to_doubles(), rows);
  std::vector<double> gradient(32, 0);
  std::fill(gradient.begin() + 24, gradient.end(), 2);
  EXPECT_EQ(weight.grad().to_doubles(), gradient);
}

TEST_F(LateErrors, RopeTurnsByNothingWhereThePositionIsBad) {
  const Tensor x = ones({1, 3, 1, 6}, {.device = kCard});
  const Tensor table = ones({4, 2}, {.device = kCard});
  const Tensor y = rope(x, table, table, {.positions = indices({0, 9, 3})});
  EXPECT_EQ(late_message(), std::string("[rope] index 9 at position 1 is out of range for 4 positions") + kLate);
  EXPECT_EQ(y.to_doubles(), (std::vector<double>{0, 0, 2, 2, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 2, 2, 1, 1}));
}

TEST_F(LateErrors, GatherAndScatterAddLeaveOutWhatIsOutOfRange) {
  const Tensor x = from_vector<float>({1, 2, 3}, {.device = kCard});
  const Tensor index = indices({2, 1LL << 40, 0, -7});
  const Tensor picked = gather(x, 0, index);
  EXPECT_EQ(late_message(),
            std::string("[gather] index 1099511627776 at position 1 is out of range for 3 elements of dim 0") + kLate);
  EXPECT_EQ(picked.to_vector<float>(), (std::vector<float>{3, 0, 1, 0}));
  const Tensor sums = scatter_add(x, 0, index, ones({4}, {.device = kCard}));
  EXPECT_EQ(
      late_message(),
      std::string("[scatter_add] index 1099511627776 at position 1 is out of range for 3 elements of dim 0") + kLate);
  EXPECT_EQ(sums.to_vector<float>(), (std::vector<float>{2, 2, 4}));
}

TEST_F(LateErrors, CrossEntropyIgnoresTheTarget) {
  for (const bool overwrite : {false, true}) {
    Tensor leaf = zeros({3, 4}, {.device = kCard, .requires_grad = true});
    const Tensor loss = cross_entropy(leaf.clone(), indices({1, 4, 2}), {.overwrite_logits = overwrite});
    loss.backward();
    EXPECT_EQ(late_message(),
              std::string("[cross_entropy] target 4 at position 1 is not in [0, 4), the classes of the logits, nor is "
                          "it ignore_index (-100)") +
                  kLate);
    EXPECT_NEAR(loss.item<float>(), std::log(4.0), 1e-6);
    const auto g = leaf.grad().to_vector<float>();
    EXPECT_EQ(std::vector<float>(g.begin() + 4, g.begin() + 8), std::vector<float>(4, 0));
    EXPECT_NEAR(g[1], -0.375, 1e-6);
  }
}

TEST_F(LateErrors, AreRaisedOnceByWhateverWaitsFirst) {
  const Tensor weight = ones({4, 2}, {.device = kCard});
  const Tensor bad = indices({0, 9});
  Tensor y = embedding(bad, weight);
  EXPECT_THROW(static_cast<void>(y.to(Device::cpu())), IndexError);
  EXPECT_EQ(y.to_doubles(), (std::vector<double>{1, 1, 0, 0}));
  y = embedding(bad, weight);
  EXPECT_THROW(static_cast<void>(weight.select(0, 0).select(0, 0).item<float>()), IndexError);
  y = embedding(bad, weight);
  EXPECT_THROW(static_cast<void>(y.to_doubles()), IndexError);
  synchronize(kCard);
}

TEST_F(LateErrors, TheFirstCallIsNamedAndInItTheFirstIndex) {
  const Tensor weight = ones({4, 2}, {.device = kCard});
  std::vector<std::int64_t> many(300000, 1);
  many[250001] = 5;
  many[299999] = -2;
  static_cast<void>(embedding(indices(many), weight));
  static_cast<void>(index_select(weight, 1, indices({2})));
  EXPECT_EQ(late_message(), std::string("[embedding] index 5 at position 250001 is out of range for 4 rows") + kLate);
  static_cast<void>(index_select(weight, 1, indices({1, 2})));
  EXPECT_EQ(late_message(),
            std::string("[index_select] index 2 at position 1 is out of range for 2 elements of dim 1") + kLate);
}

TEST_F(LateErrors, AReplayOfARecordingFindsThemToo) {
  const Tensor weight = ones({4, 2}, {.device = kCard});
  const Tensor index = indices({0, 1});
  const Tensor targets = indices({1, 1});
  Tensor y, sums, sorted, loss;
  const auto work = [&] {
    y = embedding(index, weight);
    sums = index_add(weight, 0, index, y);
    sorted = sort(sums, 0, true).first;
    loss = cross_entropy(y, targets);
  };
  work();  // whatever is made once
  synchronize(kCard);
  Capture capture(kCard);
  work();
  capture.finish();
  capture.replay();
  EXPECT_EQ(y.to_doubles(), (std::vector<double>{1, 1, 1, 1}));
  EXPECT_EQ(sums.to_doubles(), (std::vector<double>{2, 2, 2, 2, 1, 1, 1, 1}));
  EXPECT_NEAR(loss.item<float>(), std::log(2.0), 1e-6);
  index.copy_(indices({0, 4}));
  capture.replay();
  EXPECT_EQ(late_message(), std::string("[embedding] index 4 at position 1 is out of range for 4 rows") + kLate);
  index.copy_(indices({3, 3}));
  capture.replay();
  EXPECT_EQ(sorted.to_doubles(), (std::vector<double>{3, 3, 1, 1, 1, 1, 1, 1}));
}

}  // namespace
}  // namespace trinix::testing
