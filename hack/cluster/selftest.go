package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const selftestNamespace = "cluster-selftest"

// selftest runs pods under the restricted Pod Security Standard that check what
// a workload relies on, and removes them again.
func (cl cluster) selftest(ctx context.Context, out io.Writer) error {
	if err := cl.load(ctx, selftestImage, cl.config.binary("selftest"), nil); err != nil {
		return err
	}
	if err := cl.removeSelftest(ctx); err != nil { // one that was interrupted
		return err
	}
	err := cl.runSelftest(ctx, out)
	if err != nil {
		pods, _ := cl.inSelftest(ctx, "describe", "pods")
		err = fmt.Errorf("%w\n%s", err, pods)
	}
	return errors.Join(err, cl.removeSelftest(ctx))
}

func (cl cluster) runSelftest(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cl.progress.sayf("starting pods")
	if _, err := cl.kubectl(ctx, "apply", "--server-side", "--filename", cl.config.File("selftest.yaml")); err != nil {
		return err
	}
	err := cl.progress.during("waiting for the pods", func() error {
		_, err := cl.inSelftest(ctx, "rollout", "status", "deployment/web", "--timeout=60s")
		if err == nil {
			err = until(ctx, time.Minute, cl.selftestEnded)
		}
		return err
	})
	findings, logErr := cl.inSelftest(ctx, "logs", "job/check")
	_, _ = io.WriteString(out, findings)
	if err := errors.Join(err, logErr); err != nil {
		return err
	}
	return errors.Join(cl.execWorks(ctx, out), cl.podSecurityWorks(ctx, out))
}

func (cl cluster) inSelftest(ctx context.Context, args ...string) (string, error) {
	return cl.kubectl(ctx, append([]string{"--namespace", selftestNamespace}, args...)...)
}

func (cl cluster) selftestEnded(ctx context.Context) error {
	state, err := cl.inSelftest(ctx, "get", "job/check", "--output", "jsonpath={.status.succeeded}")
	if err == nil && state != "1" {
		err = errors.New("the checking pod has not succeeded")
	}
	return err
}

func (cl cluster) execWorks(ctx context.Context, out io.Writer) error {
	answer, err := cl.inSelftest(ctx, "exec", "deployment/web", "--", "/selftest", "ping")
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "pong" {
		return fmt.Errorf("exec answers %q", answer)
	}
	_, err = fmt.Fprintln(out, "ok: kubectl exec and logs work")
	return err
}

func (cl cluster) podSecurityWorks(ctx context.Context, out io.Writer) error {
	_, err := cl.inSelftest(ctx, "run", "privileged", "--image", selftestImage, "--privileged", "--dry-run=server")
	if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		return fmt.Errorf("a privileged pod is not refused: %w", err)
	}
	_, err = fmt.Fprintln(out, "ok: Pod Security admission refuses a privileged pod")
	return err
}

// removeSelftest also waits for the volume to be released and removed.
func (cl cluster) removeSelftest(ctx context.Context) error {
	cl.progress.sayf("removing pods and volume")
	_, err := cl.kubectl(ctx, "delete", "namespace", selftestNamespace, "--ignore-not-found", "--timeout=60s")
	if err != nil {
		return err
	}
	return until(ctx, 30*time.Second, func(ctx context.Context) error {
		volumes, err := cl.kubectl(ctx, "get", "persistentvolumes", "--output",
			`jsonpath={range .items[?(@.spec.claimRef.namespace=="`+selftestNamespace+`")]}{.metadata.name}{end}`)
		if err == nil && volumes != "" {
			err = fmt.Errorf("volume %s is still there", volumes)
		}
		return err
	})
}
