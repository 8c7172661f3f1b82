package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const (
	copyName = "sources.json"
	// settleTime gathers changes that come together.
	settleTime = 100 * time.Millisecond

	integrations = "pbxintegrations"
	mappings     = "extensionmappings"
	secrets      = "secrets"
	byExtension  = "extension"
)

// Watch keeps a table in step with the Kubernetes API: the mappings of one integration, its key
// ring, and the integration itself.
type Watch struct {
	table               *Table
	namespace           string
	integration         string
	copyPath            string
	logger              *slog.Logger
	api                 rest.Interface
	integrations, rings store
	mappings            store
	changed             chan struct{}
	controllers         []cache.Controller
	minted              minted
}

type store struct {
	cache.Store
	indexer cache.Indexer
}

// NewWatch prepares a watch; Run starts it. The table starts with the copy that an earlier run left
// in dir.
func NewWatch(config *rest.Config, namespace, integration, dir string, table *Table, logger *slog.Logger) (*Watch, error) {
	w := &Watch{
		table: table, namespace: namespace, integration: integration, copyPath: filepath.Join(dir, copyName), logger: logger,
		changed: make(chan struct{}, 1),
	}
	if err := table.load(w.copyPath); err != nil {
		logger.Warn("the copy of the sources is of no use; waiting for the API server", "error", err)
	}
	ours, err := clientFor(config, "/apis", v1alpha1.GroupVersion, v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	core, err := clientFor(config, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, err
	}
	w.api = ours
	name := func(name string) fields.Selector { return fields.OneTermEqualSelector(metav1.ObjectNameField, name) }
	w.integrations = w.inform(ours, integrations, name(integration), &v1alpha1.PBXIntegration{})
	w.rings = w.inform(core, secrets, name(eventurl.SecretName(integration)), &corev1.Secret{})
	w.mappings = w.inform(ours, mappings, fields.OneTermEqualSelector("spec.integrationRef.name", integration), &v1alpha1.ExtensionMapping{})
	return w, nil
}

func clientFor(config *rest.Config, apiPath string, version schema.GroupVersion, add func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, fmt.Errorf("cannot make a scheme: %w", err)
	}
	own := rest.CopyConfig(config)
	own.APIPath, own.GroupVersion = apiPath, &version
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for %s: %w", version, err)
	}
	return client, nil
}

func (w *Watch) inform(client rest.Interface, resource string, selector fields.Selector, kind runtime.Object) store {
	contents, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client, resource, w.namespace, selector),
		ObjectType:    kind,
		Transform:     slim,
		Indexers:      cache.Indexers{byExtension: extensionOf},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { w.note() },
			UpdateFunc: func(before, after any) {
				if matters(before, after) {
					w.note()
				}
			},
			DeleteFunc: func(any) { w.note() },
		},
	})
	w.controllers = append(w.controllers, controller)
	indexer, _ := contents.(cache.Indexer)
	return store{Store: contents, indexer: indexer}
}

// slim drops what nobody here reads.
func slim(obj any) (any, error) {
	switch o := obj.(type) {
	case *v1alpha1.ExtensionMapping:
		return &v1alpha1.ExtensionMapping{
			ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion},
			Spec:       v1alpha1.ExtensionMappingSpec{Extension: o.Spec.Extension, User: o.Spec.User},
			Status:     v1alpha1.ExtensionMappingStatus{ExtensionID: o.Status.ExtensionID, Agent: o.Status.Agent, Phone: o.Status.Phone},
		}, nil
	case metav1.Object:
		o.SetManagedFields(nil)
	}
	return obj, nil
}

func extensionOf(obj any) ([]string, error) {
	if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok {
		return []string{mapping.Spec.Extension.Number}, nil
	}
	return nil, nil
}

func (w *Watch) note() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends. While the API server is away the table stays as it is.
func (w *Watch) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, controller := range w.controllers {
		running.Go(func() { controller.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), w.synced) {
		return
	}
	w.note()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
			w.refresh()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleTime):
		}
	}
}

func (w *Watch) synced() bool {
	for _, controller := range w.controllers {
		if !controller.HasSynced() {
			return false
		}
	}
	return true
}

// WaitForSync waits until the watch has seen all objects once; false when ctx ends before.
func (w *Watch) WaitForSync(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), w.synced)
}

// refresh puts what the watch knows into force.
func (w *Watch) refresh() {
	next, err := w.build()
	if err != nil {
		w.logger.Warn("the event URLs stay as they are", "error", err)
		return
	}
	if err := w.table.replace(next); err != nil {
		w.logger.Error("the PBX's notifications are understood as before", "error", err)
	}
	if !w.table.Loaded() {
		return
	}
	if err := w.table.save(w.copyPath); err != nil {
		w.logger.Warn("a restart without the API server would have to wait for it", "error", err)
	}
}

var (
	errNoIntegration = errors.New("the PBXIntegration does not exist")
	errNoRing        = errors.New("the Secret with the keys of the event URLs does not exist yet")
)

func (w *Watch) build() (*table, error) {
	integration, ok := w.Integration()
	if !ok {
		return nil, errNoIntegration
	}
	found := w.rings.List()
	if len(found) == 0 {
		return nil, errNoRing
	}
	secret, _ := found[0].(*corev1.Secret)
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the keys of the event URLs: %w", err)
	}
	next := &table{
		Type: string(integration.Spec.PBX.Type), Settings: SettingsOf(integration.Spec), Rules: RulesOf(integration.Spec),
		Targets: make(map[digest]*Target),
	}
	w.minted.use(secret.Data)
	add := func(source eventurl.Source, target *Target) {
		for _, digest := range w.minted.of(target, func() []string { return ring.Tokens(source) }) {
			next.Targets[digest] = target
		}
	}
	add(eventurl.Account(string(integration.UID)), &Target{Mapping: string(integration.UID), Name: integration.Name})
	for _, obj := range w.mappings.List() {
		if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok {
			add(eventurl.Mapping(mapping.Name, string(mapping.UID)), targetOf(mapping))
		}
	}
	w.minted.keep(next)
	return next, nil
}

func targetOf(mapping *v1alpha1.ExtensionMapping) *Target {
	extension := mapping.Spec.Extension
	source := callevent.Source{Type: callevent.SourceType(extension.Type), Number: extension.Number, ID: extension.ID}
	if source.ID == "" {
		source.ID = mapping.Status.ExtensionID
	}
	if mapping.Spec.User != nil {
		source.User = mapping.Spec.User.Name
	}
	return &Target{Mapping: string(mapping.UID), Name: mapping.Name, Source: source}
}

// Integration is the PBXIntegration as it was last seen; false if it does not exist.
func (w *Watch) Integration() (*v1alpha1.PBXIntegration, bool) {
	found := w.integrations.List()
	if len(found) == 0 {
		return nil, false
	}
	integration, ok := found[0].(*v1alpha1.PBXIntegration)
	return integration, ok
}

// MappingOf is the mapping of an extension number.
func (w *Watch) MappingOf(extension string) (*v1alpha1.ExtensionMapping, bool) {
	found, err := w.mappings.indexer.ByIndex(byExtension, extension)
	if err != nil || len(found) == 0 {
		return nil, false
	}
	mapping, ok := found[0].(*v1alpha1.ExtensionMapping)
	return mapping, ok
}

// find returns the first mapping that matches.
func (w *Watch) find(matches func(*v1alpha1.ExtensionMapping) bool) (*v1alpha1.ExtensionMapping, bool) {
	for _, obj := range w.mappings.List() {
		if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok && matches(mapping) {
			return mapping, true
		}
	}
	return nil, false
}
