#pragma once

#include "support/hang_watch.h"

#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <vector>

#include <trinix/backends/cuda/probe.h>
#include <trinix/core/backend.h>
#include <trinix/core/tensor.h>

/// @file
/// What the tests of building blocks share: a card, memory on it, and an end to blocks that wait for ever.

namespace trinix::cuda {

class OnCard : public ::testing::Test {
 protected:
  void SetUp() override {
    initialize();
    if (!is_available(Device::cuda())) GTEST_SKIP() << "no CUDA device";
    watch_.emplace(::testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  static Stream stream() { return stream_of(Device::cuda()); }

 private:
  std::optional<testing::HangWatch> watch_;
};

class OnHopper : public OnCard {
 protected:
  void SetUp() override {
    OnCard::SetUp();
    if (IsSkipped()) return;
    if (!has_hopper_code(Device::cuda())) GTEST_SKIP() << "no Hopper, or no code for sm_90a";
  }
};

/// Numbers on the card.
inline Tensor on_card(const std::vector<std::int32_t>& values) { return from_vector(values).to(Device::cuda()); }
inline Tensor zeros_on_card(std::int64_t count) {
  return on_card(std::vector<std::int32_t>(static_cast<std::size_t>(count), 0));
}
inline std::vector<std::int32_t> on_host(const Tensor& t) { return t.to(Device::cpu()).to_vector<std::int32_t>(); }

/// 16-bit numbers, whose meaning is nobody's business, in the place of half as many of 32 bits.
inline Tensor halves_on_card(std::vector<std::uint16_t> values) {
  values.resize((values.size() + 1) / 2 * 2);
  std::vector<std::int32_t> pairs;
  for (std::size_t i = 0; i < values.size(); i += 2) {
    pairs.push_back(static_cast<std::int32_t>(values[i] | static_cast<std::uint32_t>(values[i + 1]) << 16));
  }
  return on_card(pairs);
}
inline std::vector<std::uint16_t> halves_on_host(const Tensor& t) {
  std::vector<std::uint16_t> values;
  for (const std::int32_t pair : on_host(t)) {
    values.push_back(static_cast<std::uint16_t>(pair));
    values.push_back(static_cast<std::uint16_t>(static_cast<std::uint32_t>(pair) >> 16));
  }
  return values;
}

/// Where the copy engine, and SharedTile<64>, put (row, column) of a panel of 64 columns of 16 bits: by the words of
/// the PTX ISA, not by the code under test.
inline std::size_t place_in_panel(int row, int column) {
  return static_cast<std::size_t>(row * 64 + ((column / 8) ^ (row % 8)) * 8 + column % 8);
}

}  // namespace trinix::cuda
