// Command provisioner serves the cluster's default StorageClass: each claim gets
// a directory of the node as a local PersistentVolume, removed on release.
//
// Local volumes, not hostPath ones, because the kubelet applies a pod's fsGroup
// only to the former. The requested size is recorded but not enforced.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the provisioner's user")
	name := flag.String("provisioner", "", "name that StorageClasses refer to")
	root := flag.String("root", "", "directory that holds one directory per volume")
	node := flag.String("node", "", "name of the node that owns the directory")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *name, directories{root: *root, node: *node}); err != nil {
		klog.ErrorS(err, "provisioner failed")
		os.Exit(1) //nolint:gocritic // the process ends here, so does the signal handler
	}
}

func run(ctx context.Context, kubeconfig, name string, volumes directories) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	controller.NewProvisionController(ctx, client, name, volumes,
		controller.LeaderElection(false), // there is one node and one provisioner
		controller.MetricsPort(0),
	).Run(ctx)
	return nil
}

// directories provisions volumes as directories below root on node.
type directories struct {
	root, node string
}

// Provision makes the directory world-writable, as a pod without fsGroup may run as any user.
func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	for _, mode := range o.PVC.Spec.AccessModes {
		if mode == corev1.ReadWriteMany || mode == corev1.ReadOnlyMany {
			return nil, controller.ProvisioningFinished, fmt.Errorf("access mode %s is not supported: use ReadWriteOnce or ReadWriteOncePod", mode)
		}
	}
	path := d.path(o.PVName)
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return d.volume(o, path), controller.ProvisioningFinished, nil
}

// Delete removes the volume's directory; one that is gone already is no error.
func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	return os.RemoveAll(d.path(volume.Name))
}

func (d directories) path(volume string) string {
	return filepath.Join(d.root, filepath.Base(volume))
}

func (d directories) volume(o controller.ProvisionOptions, path string) *corev1.PersistentVolume {
	onThisNode := corev1.NodeSelectorRequirement{
		Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{d.node},
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    o.PVC.Spec.VolumeMode,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{onThisNode}}},
			}},
		},
	}
}
