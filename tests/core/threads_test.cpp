#include "support/errors.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <trinix/core/error.h>
#include <trinix/core/tensor.h>
#include <trinix/core/threads.h>

namespace trinix {
namespace {

/// Restores both settings, the library's and OpenMP's.
class Threads : public ::testing::Test {
 protected:
  ~Threads() override {
    set_num_threads(0);
    omp_set_num_threads(before_);
  }
  int before_ = omp_get_max_threads();
};

TEST_F(Threads, TheDefaultIsOpenMPsOwn) {
  set_num_threads(0);
  EXPECT_EQ(num_threads(), omp_get_max_threads());
  omp_set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
}

TEST_F(Threads, SettingTheLibrarysCountLeavesTheHostsAlone) {
  omp_set_num_threads(5);
  set_num_threads(2);
  EXPECT_EQ(num_threads(), 2);
  EXPECT_EQ(omp_get_max_threads(), 5);
  // Nor does a kernel that runs on a team of its own change it.
  EXPECT_EQ(full({1 << 18}, 3).to(DType::f64).to_doubles().back(), 3);
  EXPECT_EQ(omp_get_max_threads(), 5);
  set_num_threads(0);
  EXPECT_EQ(num_threads(), 5);
}

TEST_F(Threads, ANegativeCountIsAnError) {
  EXPECT_EQ(testing::message_of<ConfigError>([] { set_num_threads(-1); }),
            "[set_num_threads] -1 threads were asked for; 0 means the default");
  EXPECT_EQ(num_threads(), omp_get_max_threads());
}

TEST_F(Threads, ResultsDoNotDependOnTheCount) {
  const Tensor x = arange(0, 100003, 1, {DType::i64}).reshape({100003});
  std::vector<double> one;
  for (const int count : {1, 2, 3, 7}) {
    set_num_threads(count);
    const std::vector<double> values = x.slice(0, 1, 100003, 3).to(DType::f64).to_doubles();
    if (count == 1) one = values;
    EXPECT_EQ(values, one) << count;
  }
}

TEST_F(Threads, ARegionOfTheHostsOwnMayCallTheLibrary) {
  int members = 0;
  int right = 0;
#pragma omp parallel num_threads(4) reduction(+ : members, right)
  {
    members += 1;
    right += full({70000}, 2, {DType::i32}).to(DType::i64).to_vector<std::int64_t>().back() == 2 ? 1 : 0;
  }
  EXPECT_GE(members, 1);
  EXPECT_EQ(right, members);
}

}  // namespace
}  // namespace trinix
