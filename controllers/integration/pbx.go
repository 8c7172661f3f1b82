package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// recheck is how long a failed check of the PBX stands, whatever happens meanwhile in the cluster.
const recheck = 5 * time.Second

// check is what a PBX said, and to which question.
type check struct {
	question string
	at       time.Time
	err      error
}

// checks remembers the last one of each integration, so that passes for other reasons cost the PBX nothing.
type checks struct {
	mu   sync.Mutex
	last map[types.UID]check
}

func (c *checks) get(uid types.UID) check {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[uid]
}

func (c *checks) set(uid types.UID, made check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[uid] = made
}

func (c *checks) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, uid)
}

// reconcilePBX reads the credentials and asks the PBX whether it knows them.
func (c *Controller) reconcilePBX(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	name := pbxapi.CredentialsSecret(p.Spec.PBX)
	if name == "" { // a PBX without a management API
		lifecycle.RemoveCondition(p, v1alpha1.ConditionPBXReachable)
		return nil
	}
	secret, err := c.Secrets.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: name})
	if apierrors.IsNotFound(err) {
		return c.unreachable(p, metav1.ConditionUnknown, lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing,
			"there is no Secret %q: create it with the credentials of the PBX", name))
	}
	if err != nil {
		return fmt.Errorf("cannot read the credentials: %w", err)
	}
	question := fmt.Sprintf("%d %s %s %s", p.Generation, secret.UID, secret.ResourceVersion, p.Annotations[v1alpha1.AnnotationReconcile])
	return c.judge(p, name, c.ask(ctx, p, question, secret.Data))
}

// ask makes the check, or repeats the answer to the last one while that is fresh.
func (c *Controller) ask(ctx context.Context, p *v1alpha1.PBXIntegration, question string, credentials map[string][]byte) error {
	now := c.Clock.Now()
	if last := c.checks.get(p.UID); last.question == question && now.Sub(last.at) < c.freshness(last.err) {
		return last.err
	}
	checker, err := c.PBXes.For(p, credentials)
	if err == nil {
		err = checker.Check(ctx)
	}
	if ctx.Err() == nil {
		c.checks.set(p.UID, check{question: question, at: now, err: err})
	}
	return err
}

// freshness of a good answer is a bit less than the shortest interval between two passes that nobody asked for.
func (c *Controller) freshness(err error) time.Duration {
	if err == nil {
		return c.Interval * 8 / 10
	}
	return min(recheck, c.Interval)
}

// judge turns the answer of the PBX into the condition PBXReachable and an outcome.
func (c *Controller) judge(p *v1alpha1.PBXIntegration, secret string, answer error) error {
	var limited *pbxapi.RateLimitedError
	switch {
	case answer == nil:
		c.condition(p, v1alpha1.ConditionPBXReachable, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable, "the PBX answers and accepts the credentials")
		return nil
	case errors.As(answer, &limited):
		return lifecycle.RateLimited{After: limited.After, Err: errors.New("the PBX was asked enough for now; the check follows later")}
	case errors.Is(answer, pbxapi.ErrInvalid):
		return c.unreachable(p, metav1.ConditionUnknown, lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing,
			"the credentials in Secret %q cannot be used: %w", secret, answer))
	case errors.Is(answer, pbxapi.ErrUnauthorized):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Terminalf(v1alpha1.ReasonCredentialsInvalid,
			"put valid credentials into Secret %q: %w", secret, answer))
	case errors.Is(answer, pbxapi.ErrForbidden):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Terminal{Reason: v1alpha1.ReasonPBXRefused, Err: answer})
	case errors.Is(answer, pbxapi.ErrRejected), errors.Is(answer, pbxapi.ErrNotFound):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Transient{Reason: v1alpha1.ReasonPBXRefused, Err: answer})
	default:
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Transient{Reason: v1alpha1.ReasonPBXUnreachable, Err: answer})
	}
}

// unreachable repeats an outcome in the condition PBXReachable.
func (c *Controller) unreachable(p *v1alpha1.PBXIntegration, status metav1.ConditionStatus, outcome error) error {
	reason := v1alpha1.ReasonPBXUnreachable
	if terminal, ok := errors.AsType[lifecycle.Terminal](outcome); ok {
		reason = terminal.Reason
	}
	if transient, ok := errors.AsType[lifecycle.Transient](outcome); ok {
		reason = transient.Reason
	}
	c.condition(p, v1alpha1.ConditionPBXReachable, status, reason, outcome.Error())
	return outcome
}
