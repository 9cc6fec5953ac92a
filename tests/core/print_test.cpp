// The exact text of printed tensors.
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <sstream>

#include <trinix/core/tensor.h>

namespace trinix {
namespace {

Tensor floats(const std::vector<float>& values) { return from_vector(values); }

TEST(Print, FloatsShareOnePrecision) {
  EXPECT_EQ(from_vector<float>({1, 2.5F, -3.25F, 100}, {2, 2}).to_string(),
            "tensor([[  1.0000,   2.5000],\n"
            "        [ -3.2500, 100.0000]], f32, cpu)");
}

TEST(Print, WholeFloatsAreShort) {
  EXPECT_EQ(floats({1, 2, 30}).to_string(), "tensor([ 1.,  2., 30.], f32, cpu)");
  EXPECT_EQ(floats({0, -0.0F}).to_string(), "tensor([ 0., -0.], f32, cpu)");
  EXPECT_EQ(floats({1, 99999999.0F}).to_string(), "tensor([1.0000e+00, 1.0000e+08], f32, cpu)");
  EXPECT_EQ(from_vector<double>({1, 99999999}).to_string(), "tensor([       1., 99999999.], f64, cpu)");
}

TEST(Print, WideRangesAreScientific) {
  EXPECT_EQ(floats({0.00001F, 1}).to_string(), "tensor([1.0000e-05, 1.0000e+00], f32, cpu)");
  EXPECT_EQ(floats({1.5F, 3000}).to_string(), "tensor([1.5000e+00, 3.0000e+03], f32, cpu)");
  EXPECT_EQ(floats({1e20F, -1}).to_string(), "tensor([ 1.0000e+20, -1.0000e+00], f32, cpu)");
  EXPECT_EQ(from_vector<double>({1e-300, 0}).to_string(), "tensor([1.0000e-300,  0.0000e+00], f64, cpu)");
}

TEST(Print, NanAndInfinityDoNotDecideTheStyle) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(floats({NAN, inf, -inf, 0.5F}).to_string(), "tensor([   nan,    inf,   -inf, 0.5000], f32, cpu)");
  EXPECT_EQ(floats({NAN, inf, -inf}).to_string(), "tensor([ nan,  inf, -inf], f32, cpu)");
  EXPECT_EQ(floats({NAN, 3}).to_string(), "tensor([nan,  3.], f32, cpu)");
}

TEST(Print, EveryDtypeNamesItself) {
  EXPECT_EQ(from_vector<std::uint8_t>({0, 7, 255}).to_string(), "tensor([  0,   7, 255], u8, cpu)");
  EXPECT_EQ(from_vector<std::int32_t>({-1, 20}).to_string(), "tensor([-1, 20], i32, cpu)");
  EXPECT_EQ(from_vector<std::int64_t>({9007199254740993, std::numeric_limits<std::int64_t>::min()}).to_string(),
            "tensor([    9007199254740993, -9223372036854775808], i64, cpu)");
  EXPECT_EQ(full({2}, 1.5, {DType::f16}).to_string(), "tensor([1.5000, 1.5000], f16, cpu)");
  EXPECT_EQ(full({2}, -2, {DType::bf16}).to_string(), "tensor([-2., -2.], bf16, cpu)");
  const Tensor flags = zeros({3}, {DType::boolean});
  flags.data<bool>()[1] = true;
  EXPECT_EQ(flags.to_string(), "tensor([false,  true, false], bool, cpu)");
}

TEST(Print, ScalarsHaveNoBrackets) {
  EXPECT_EQ(full({}, 2.5).to_string(), "tensor(2.5000, f32, cpu)");
  EXPECT_EQ(full({}, 3, {DType::i64}).to_string(), "tensor(3, i64, cpu)");
  EXPECT_EQ(full({}, true, {DType::boolean}).to_string(), "tensor(true, bool, cpu)");
  EXPECT_EQ(full({1, 1}, 3).to_string(), "tensor([[3.]], f32, cpu)");
}

TEST(Print, EmptyTensorsTellTheirShape) {
  EXPECT_EQ(empty({0}).to_string(), "tensor([], f32, cpu)");
  EXPECT_EQ(empty({2, 0, 3}, {DType::i32}).to_string(), "tensor([], shape [2, 0, 3], i32, cpu)");
  EXPECT_EQ(Tensor().to_string(), "tensor(undefined)");
}

TEST(Print, BlankLinesPartMatrices) {
  EXPECT_EQ(arange(8).reshape({2, 2, 2}).to_string(),
            "tensor([[[0, 1],\n"
            "         [2, 3]],\n"
            "\n"
            "        [[4, 5],\n"
            "         [6, 7]]], i64, cpu)");
  EXPECT_EQ(arange(4).reshape({2, 1, 1, 2}).to_string(),
            "tensor([[[[0, 1]]],\n"
            "\n"
            "\n"
            "        [[[2, 3]]]], i64, cpu)");
}

TEST(Print, ViewsPrintWhatTheyShow) {
  const Tensor t = arange(6).reshape({2, 3});
  EXPECT_EQ(t.transpose(0, 1).to_string(),
            "tensor([[0, 3],\n"
            "        [1, 4],\n"
            "        [2, 5]], i64, cpu)");
  EXPECT_EQ(t.slice(1, 0, 3, 2).to_string(),
            "tensor([[0, 2],\n"
            "        [3, 5]], i64, cpu)");
  EXPECT_EQ(t.select(0, 1).unsqueeze(0).expand({2, 3}).to_string(),
            "tensor([[3, 4, 5],\n"
            "        [3, 4, 5]], i64, cpu)");
}

TEST(Print, LongTensorsLoseTheirMiddle) {
  EXPECT_EQ(arange(1001).to_string(), "tensor([   0,    1,    2, ...,  998,  999, 1000], shape [1001], i64, cpu)");
  EXPECT_EQ(arange(2000).reshape({200, 10}).to_string(),
            "tensor([[   0,    1,    2, ...,    7,    8,    9],\n"
            "        [  10,   11,   12, ...,   17,   18,   19],\n"
            "        [  20,   21,   22, ...,   27,   28,   29],\n"
            "        ...,\n"
            "        [1970, 1971, 1972, ..., 1977, 1978, 1979],\n"
            "        [1980, 1981, 1982, ..., 1987, 1988, 1989],\n"
            "        [1990, 1991, 1992, ..., 1997, 1998, 1999]], shape [200, 10], i64, cpu)");
  // Short dims stay whole.
  EXPECT_EQ(arange(1200).reshape({600, 2}).transpose(0, 1).to_string(),
            "tensor([[   0,    2,    4, ..., 1194, 1196, 1198],\n"
            "        [   1,    3,    5, ..., 1195, 1197, 1199]], shape [2, 600], i64, cpu)");
}

TEST(Print, ExactlyTheThresholdIsWhole) {
  const std::string text = arange(1000).to_string();
  EXPECT_EQ(text.find("..."), std::string::npos);
  EXPECT_NE(text.find("500"), std::string::npos);
}

TEST(Print, LongRowsAreBroken) {
  EXPECT_EQ(arange(30).to_string(),
            "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
            "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29], i64, cpu)");
}

TEST(Print, AHugeExpandedTensorCostsNothing) {
  EXPECT_EQ(ones({1}).expand({std::int64_t{1} << 40}).to_string(),
            "tensor([1., 1., 1., ..., 1., 1., 1.], shape [1099511627776], f32, cpu)");
}

TEST(Print, TellsThatGradientsAreWanted) {
  EXPECT_EQ(ones({2}, {.requires_grad = true}).to_string(), "tensor([1., 1.], f32, cpu, requires grad)");
}

TEST(Print, StreamsTheSameText) {
  std::ostringstream out;
  out << arange(3);
  EXPECT_EQ(out.str(), "tensor([0, 1, 2], i64, cpu)");
}

}  // namespace
}  // namespace trinix
