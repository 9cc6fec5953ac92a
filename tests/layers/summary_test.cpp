#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/layers/activation.h>
#include <trinix/layers/gpt.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/sequential.h>
#include <trinix/layers/summary.h>

namespace trinix::nn {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Summary, ListsLayersShapesAndCounts) {
  const Sequential model(std::make_shared<Linear>(LinearOptions{.in_features = 40, .out_features = 30}),
                         std::make_shared<Tanh>(),
                         std::make_shared<Linear>(LinearOptions{.in_features = 30, .out_features = 2, .bias = false}));
  EXPECT_EQ(summary(model),
            "name   class       parameters  shapes\n"
            "model  Sequential       1,290\n"
            "  0    Linear           1,230  weight [30, 40], bias [30]\n"
            "  1    Tanh                 0\n"
            "  2    Linear              60  weight [2, 30]\n"
            "1,290 parameters, of which 1,290 are trained; 0.00 MiB, and 0.00 MiB of buffers\n");
}

TEST(Summary, CountsTiedParametersOnceAndStopsWhereTold) {
  Gpt gpt({.vocab_size = 65, .block_size = 32, .layers = 2, .heads = 4, .width = 32});
  const std::string text = summary(gpt);
  EXPECT_THAT(text, HasSubstr("lm_head"));
  EXPECT_THAT(text, HasSubstr("weight [65, 32] (tied)"));
  EXPECT_THAT(text, HasSubstr("ModuleList<Block>"));
  std::string total = std::to_string(gpt.num_parameters());
  total.insert(total.size() - 3, ",");
  EXPECT_THAT(text, HasSubstr("\n" + total + " parameters, of which " + total + " are trained"));
  gpt.requires_grad_(false);
  const std::string shallow = summary(gpt, {.depth = 1});
  EXPECT_THAT(shallow, Not(HasSubstr("wte")));
  EXPECT_THAT(shallow, HasSubstr("of which 0 are trained"));
}

}  // namespace
}  // namespace trinix::nn
