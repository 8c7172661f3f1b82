package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

const (
	convergeRequests = "10,000 mappings: PBX requests per extension to converge"
	steadyRequests   = "10,000 mappings: PBX requests per extension of a steady pass"
	steadyWrites     = "10,000 mappings: writes of a steady pass, PBX and API"
	managerMemory    = "manager memory with 10,000 mappings"
	firstEvent       = "new mapping → first event accepted"

	mappings = 10_000
	// events that a phone is registered for.
	phoneEvents = 4
	// newMappings are made one by one in the end.
	newMappings  = 5
	convergeTime = 8 * time.Minute
	steadyTime   = 2 * time.Minute
	// quietTime is how long nothing must happen any more for a pass to be over.
	quietTime = 2 * time.Second
)

func mappingsGroup() group {
	return group{name: "mappings", measure: measureMappings, rows: []row{
		promise(convergeRequests, "", atMost(1+phoneEvents)),
		promise(steadyRequests, "", atMost(1)),
		promise(steadyWrites, "", atMost(0)),
		promise(managerMemory, "MiB", atMost(150)),
		promise(firstEvent, "s", atMost(2)),
	}}
}

func measureMappings(ctx context.Context, b *bench, s *sheet) error {
	site, err := b.startSite(ctx, mappings+newMappings)
	if err != nil {
		return err
	}
	defer site.stop()
	if err := site.measureConvergence(ctx, s); err != nil {
		return err
	}
	if err := site.measureSteady(ctx, s); err != nil {
		return err
	}
	return site.measureFirstEvent(ctx, s)
}

// measureConvergence brings ten thousand mappings up.
func (s *site) measureConvergence(ctx context.Context, to *sheet) error {
	if err := s.startManager(ctx); err != nil {
		return err
	}
	if err := s.integrate(ctx); err != nil {
		return err
	}
	s.progressf("creating %d mappings", mappings)
	start := time.Now()
	if err := s.createMappings(ctx, mappings); err != nil {
		return err
	}
	created := time.Since(start)
	if err := s.converged(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	requests, err := s.control.Requests(ctx)
	if err != nil {
		return err
	}
	asked := registrationRequests(requests)
	to.set(convergeRequests, float64(asked)/mappings, "1 list and %d creates; %d more for the directory and tokens; all Ready after %s (%s to create them)",
		phoneEvents, requests.Total-asked, took.Round(time.Second), created.Round(time.Second))
	return s.measureManager(to)
}

func (s *site) measureManager(to *sheet) error {
	most, err := s.manager.memory("VmHWM")
	if err != nil {
		return err
	}
	now, err := s.manager.memory("VmRSS")
	if err != nil {
		return err
	}
	to.set(managerMemory, most, "VmHWM, the most while they converged; %s MiB afterwards", number(now))
	return nil
}

// converged waits until all mappings are Ready. It asks the PBX first, which is cheaper.
func (s *site) converged(ctx context.Context) error {
	told := time.Now()
	return until(ctx, convergeTime, time.Second, "all mappings are to be Ready", func(ctx context.Context) (bool, error) {
		if err := s.manager.alive(); err != nil {
			return false, err
		}
		requests, err := s.control.Requests(ctx)
		if err != nil {
			return false, err
		}
		registered := requests.Routes[simclient.CreateEventRoute].Count
		if time.Since(told) > 10*time.Second {
			s.progressf("%d of %d registrations made", registered, mappings*phoneEvents)
			told = time.Now()
		}
		if registered < mappings*phoneEvents {
			return false, nil
		}
		list, err := s.mappings(ctx)
		return err == nil && !slices.ContainsFunc(list, func(m v1alpha1.ExtensionMapping) bool { return !isReady(m) }), err
	})
}

func isReady(m v1alpha1.ExtensionMapping) bool {
	for _, condition := range m.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition.Status == "True"
		}
	}
	return false
}

func (s *site) mappings(ctx context.Context) ([]v1alpha1.ExtensionMapping, error) {
	var list v1alpha1.ExtensionMappingList
	if err := s.api.client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("cannot list the mappings: %w", err)
	}
	return list.Items, nil
}

// measureSteady restarts the manager, which looks at every extension once, and counts what that
// costs.
func (s *site) measureSteady(ctx context.Context, to *sheet) error {
	s.progressf("restarting the manager")
	s.manager.stop()
	before, err := s.versions(ctx)
	if err != nil {
		return err
	}
	if err := s.control.ResetRequests(ctx); err != nil {
		return err
	}
	start := time.Now()
	if err := s.startManager(ctx); err != nil {
		return err
	}
	requests, err := s.passed(ctx)
	if err != nil {
		return err
	}
	took := time.Since(start)
	after, err := s.versions(ctx)
	if err != nil {
		return err
	}
	changed := 0
	for name, version := range after {
		if before[name] != version {
			changed++
		}
	}
	asked := registrationRequests(requests)
	to.set(steadyRequests, float64(asked)/mappings, "after a restart of the manager, all seen within %s; %d more requests for the directory and tokens",
		took.Round(time.Second), requests.Total-asked)
	to.set(steadyWrites, float64(requests.Writes()+changed), "%d on the PBX, %d mappings changed in the API", requests.Writes(), changed)
	return nil
}

// passed waits until every extension has been looked at and nothing more happens.
func (s *site) passed(ctx context.Context) (simclient.Requests, error) {
	var requests simclient.Requests
	last := time.Now()
	err := until(ctx, steadyTime, quietTime/4, "the manager is to have looked at all extensions", func(ctx context.Context) (bool, error) {
		if err := s.manager.alive(); err != nil {
			return false, err
		}
		now, err := s.control.Requests(ctx)
		if now.Total != requests.Total {
			last = time.Now()
		}
		requests = now
		return requests.Routes[simclient.ListEventsRoute].Count >= mappings && time.Since(last) > quietTime, err
	})
	return requests, err
}

// versions are the resource versions of all mappings.
func (s *site) versions(ctx context.Context) (map[types.UID]string, error) {
	list, err := s.mappings(ctx)
	versions := make(map[types.UID]string, len(list))
	for i := range list {
		versions[list[i].UID] = list[i].ResourceVersion
	}
	return versions, err
}

// registrationRequests are those about registrations.
func registrationRequests(requests simclient.Requests) int {
	count := 0
	for route, counted := range requests.Routes {
		if strings.Contains(route, "/extension/{extension}/event") {
			count += counted.Count
		}
	}
	return count
}

// measureFirstEvent makes some mappings more.
func (s *site) measureFirstEvent(ctx context.Context, to *sheet) error {
	s.progressf("starting a receiver and making %d mappings more", newMappings)
	if err := s.startReceiver(ctx); err != nil {
		return err
	}
	var times []time.Duration
	for n := range newMappings {
		took, err := s.acceptedAfter(ctx, mappings+n)
		if err != nil {
			return errors.Join(err, s.receiver.alive())
		}
		times = append(times, took)
	}
	to.set(firstEvent, median(times).Seconds(), "median of %d, beside the 10,000; the slowest took %s; registered on the PBX, and a call's event answered 2xx",
		newMappings, slices.Max(times).Round(time.Millisecond))
	return nil
}
