package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// answers reports whether the PBX has anything that could be asked: a management API, commands, or
// a database.
func answers(pbx v1alpha1.PBX) bool {
	box := pbx.LinuxBox
	return pbxapi.HasRegistrations(pbx) || box != nil && (box.URL != "" || box.Database != nil)
}

// reconcilePBX reads the credentials and asks the PBX whether it knows them.
func (c *Controller) reconcilePBX(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	if !answers(p.Spec.PBX) {
		lifecycle.RemoveCondition(p, v1alpha1.ConditionPBXReachable)
		return nil
	}
	credentials, err := pbxapi.Credentials(ctx, c.Secrets, p)
	if errors.Is(err, pbxapi.ErrCredentialsMissing) {
		return c.unreachable(p, metav1.ConditionUnknown, lifecycle.Terminal{Reason: v1alpha1.ReasonCredentialsMissing, Err: err})
	}
	if err != nil {
		return err
	}
	question, err := questionOf(p, credentials)
	if err != nil {
		return err
	}
	return c.reportCheck(p, c.ask(ctx, p, question, credentials))
}

// questionOf changes with everything that the answer of the PBX may depend on.
func questionOf(p *v1alpha1.PBXIntegration, credentials map[string][]byte) (string, error) {
	sum, err := digest(credentials)
	return fmt.Sprintf("%d %s %s", p.Generation, sum, p.Annotations[v1alpha1.AnnotationReconcile]), err
}

// ask makes the check, or repeats the answer to the last one while that is fresh.
func (c *Controller) ask(ctx context.Context, p *v1alpha1.PBXIntegration, question string, credentials map[string][]byte) error {
	now := c.Clock.Now()
	if last := c.checks.get(p.UID); last.question == question && now.Sub(last.at) < c.freshness(last.err) {
		return last.err
	}
	pbx, err := c.PBXes.For(p, credentials)
	if err == nil {
		err = pbx.Check(ctx)
	}
	if ctx.Err() == nil {
		c.checks.set(p.UID, check{question: question, at: now, err: err})
	}
	return err
}

// freshness of a good answer is a bit less than the shortest interval between two passes that
// nobody asked for.
func (c *Controller) freshness(err error) time.Duration {
	if err == nil {
		return c.Interval * 8 / 10
	}
	return min(recheck, c.Interval)
}

// reportCheck turns the answer of the PBX into the condition PBXReachable and an outcome.
func (c *Controller) reportCheck(p *v1alpha1.PBXIntegration, answer error) error {
	answer = pbxapi.Trouble(answer)
	var limited *pbxapi.RateLimitedError
	credentials := nameCredentials(p.Spec.PBX)
	switch {
	case answer == nil:
		message := "the PBX answers and accepts the credentials"
		c.condition(p, v1alpha1.ConditionPBXReachable, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable, message)
		return nil
	case errors.As(answer, &limited):
		return lifecycle.RateLimited{After: limited.After, Err: errors.New("the PBX was asked enough for now; the check follows later")}
	case errors.Is(answer, pbxapi.ErrInvalid):
		return c.unreachable(p, metav1.ConditionUnknown, lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing,
			"correct spec.pbx or %s: %w", credentials, answer))
	case errors.Is(answer, pbxapi.ErrUnauthorized):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Terminalf(v1alpha1.ReasonCredentialsInvalid,
			"put valid credentials into %s: %w", credentials, answer))
	case errors.Is(answer, pbxapi.ErrForbidden):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Terminal{Reason: v1alpha1.ReasonPBXRefused, Err: answer})
	case errors.Is(answer, pbxapi.ErrRejected), errors.Is(answer, pbxapi.ErrNotFound):
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Transient{Reason: v1alpha1.ReasonPBXRefused, Err: answer})
	default:
		return c.unreachable(p, metav1.ConditionFalse, lifecycle.Transient{Reason: v1alpha1.ReasonPBXUnreachable, Err: answer})
	}
}

// nameCredentials names the Secrets with credentials for people.
func nameCredentials(pbx v1alpha1.PBX) string {
	names := pbxapi.CredentialSecrets(pbx)
	if len(names) == 0 {
		return "a Secret that credentialsSecretRef names"
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("Secret %q", name)
	}
	return strings.Join(names, " or ")
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
