#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/tools/lib/loss_plot.h>

namespace trinix::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A curve such as training gives: a fast fall, a slow one, and noise.
LossPlot example(int steps) {
  LossPlot plot{.title = "char-cpu on tinyshakespeare", .subtitle = "4 layers, 4 heads, 128 wide, block 64, batch 12"};
  unsigned noise = 1;
  for (int step = 1; step <= steps; ++step) {
    noise = noise * 1664525 + 1013904223;
    const double part = static_cast<double>(step) / steps;
    const double loss = 1.62 + 1.0 * std::exp(-6 * part) + 1.6 * std::exp(-90 * part);
    plot.training.push_back({double(step), loss + 0.12 * (static_cast<double>(noise >> 8) / (1 << 24) - 0.5)});
    if (step % std::max(1, steps / 8) == 0) plot.validation.push_back({double(step), loss + 0.06 + 0.1 * part * part});
  }
  return plot;
}

std::size_t count_of(const std::string& text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(RoundTicks, AreRoundAndCoverTheRange) {
  EXPECT_THAT(round_ticks(0, 5000, 8), ElementsAre(0, 1000, 2000, 3000, 4000, 5000));
  EXPECT_THAT(round_ticks(1.42, 4.3, 7), ElementsAre(1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5));
  EXPECT_THAT(round_ticks(0, 1, 5), ElementsAre(0, 0.2, 0.4, ::testing::DoubleEq(0.6), 0.8, 1));
  for (const double low : {-3.0, 0.0, 0.001, 1.5, 1e6}) {
    for (const double width : {1e-4, 0.3, 1.0, 7.0, 12345.0}) {
      const auto ticks = round_ticks(low, low + width, 7);
      EXPECT_LE(ticks.front(), low + 1e-9 * std::abs(low) + 1e-12);
      EXPECT_GE(ticks.back(), low + width - 1e-6 * width);
      EXPECT_GE(ticks.size(), 4U);
      EXPECT_LE(ticks.size(), 10U);
    }
  }
  EXPECT_GE(round_ticks(2, 2, 5).size(), 3U);
}

TEST(LossSvg, HasTitleAxesLegendAndCurves) {
  const std::string svg = loss_svg(example(2000));
  EXPECT_THAT(svg, ::testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  EXPECT_EQ(count_of(svg, "<polyline"), 3U);
  for (const char* text : {"char-cpu on tinyshakespeare", ">step<", "cross-entropy", ">1500<", ">2.5<",
                           "training, each step", "training, mean of 51 steps", "validation (best 1."}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
}

TEST(LossSvg, StaysSmallForAnyNumberOfSteps) { EXPECT_LT(loss_svg(example(300'000)).size(), 200'000U); }

TEST(LossSvg, LeavesOutWhatIsNotFinite) {
  LossPlot plot = example(100);
  plot.training[5].loss = NAN;
  plot.training[6].loss = INFINITY;
  plot.validation[0].loss = NAN;
  const std::string svg = loss_svg(plot);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(LossSvg, TakesNothingAndNextToNothing) {
  EXPECT_THAT(loss_svg({}), HasSubstr("no steps yet"));
  LossPlot plot;
  plot.training = {{1, 4.2}};
  EXPECT_THAT(loss_svg(plot), Not(HasSubstr("nan")));
  plot.validation = {{1, 4.2}};
  EXPECT_THAT(loss_svg(plot), HasSubstr("validation (best 4.2000 at step 1)"));
}

TEST(LossSvg, EscapesItsTitle) {
  EXPECT_THAT(loss_svg({.title = "a<b> & \"c\" \x01\xFF é"}),
              HasSubstr("a&lt;b&gt; &amp; &quot;c&quot; \uFFFD\uFFFD é"));
}

TEST(LossSvg, ComesFromMetrics) {
  std::vector<MetricsRow> rows(3);
  rows[2] = {.step = 3, .loss = 2, .evaluated = true, .val_loss = 2.5};
  const LossPlot plot = loss_plot(rows, "t");
  EXPECT_EQ(plot.training.size(), 3U);
  ASSERT_EQ(plot.validation.size(), 1U);
  EXPECT_EQ(plot.validation[0].loss, 2.5);
}

}  // namespace
}  // namespace trinix::tools
