// Copies of transposed matrices, which take ways of their own: whole tiles, edges, odd sizes, a batch outside.
#include "op_case.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

class TransposedCopies : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, TransposedCopies, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(TransposedCopies, MoveEveryElementOfEverySizeOfType) {
  for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::f64}) {
    for (const Shape& shape : {Shape{1, 64, 128}, Shape{1, 72, 200}, Shape{1, 33, 65}, Shape{3, 40, 56}}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + shape.to_string());
      const std::int64_t rows = shape[1], columns = shape[2];
      std::vector<float> values;  // whole numbers that every dtype holds
      for (std::int64_t i = 0; i < numel(shape); ++i) values.push_back(static_cast<float>(i * 7 % 251));
      const Tensor x = from_vector(values, shape).to(dtype);
      const std::vector<double> y = x.transpose(1, 2).contiguous().to_doubles();
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < numel(shape); ++i) {
        const std::int64_t batch = i / (rows * columns), row = i / columns % rows, column = i % columns;
        wrong +=
            y[static_cast<std::size_t>((batch * columns + column) * rows + row)] != values[static_cast<std::size_t>(i)];
      }
      EXPECT_EQ(wrong, 0);
    }
  }
}

TEST_P(TransposedCopies, ARepeatedColumnIsNone) {
  const Tensor x = arange(0, 40).to(DType::f32);
  const Tensor y = x.unsqueeze(1).expand({40, 24}).clone();
  for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(y[i].to_doubles(), std::vector<double>(24, static_cast<double>(i)));
}

TEST_P(TransposedCopies, GoIntoPartsOfALargerTensor) {
  const Tensor x = randn({48, 64}), whole = zeros({64, 80});
  whole.narrow(1, 16, 48).copy_(x.transpose(0, 1));
  EXPECT_EQ(whole.narrow(1, 16, 48).to_doubles(), x.transpose(0, 1).to_doubles());
  EXPECT_EQ(whole.narrow(1, 0, 16).to_doubles(), std::vector<double>(1024));
  EXPECT_EQ(whole.narrow(1, 64, 16).to_doubles(), std::vector<double>(1024));
}

}  // namespace
}  // namespace trinix::testing
