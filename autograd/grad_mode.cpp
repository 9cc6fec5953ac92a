#include <utility>

#include <trinix/autograd/grad_mode.h>

namespace trinix {

namespace {
thread_local bool recording = true;
thread_local bool anomaly = false;
}  // namespace

bool grad_enabled() { return recording; }

GradMode::GradMode(bool enabled) : previous_(std::exchange(recording, enabled)) {}
GradMode::~GradMode() { recording = previous_; }

AnomalyMode::AnomalyMode(bool enabled) : previous_(std::exchange(anomaly, enabled)) {}
AnomalyMode::~AnomalyMode() { anomaly = previous_; }
bool AnomalyMode::enabled() { return anomaly; }

}  // namespace trinix
