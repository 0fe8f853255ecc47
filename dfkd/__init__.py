"""dfkd: data-free knowledge distillation of text classifiers."""
